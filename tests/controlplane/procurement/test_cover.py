"""Extra instances are rented while they are worth their price."""

from hypothesis import given
from hypothesis import strategies as st

from controlplane.procurement import cover

domains_of = st.lists(st.tuples(st.integers(1, 5), st.floats(0, 1)), max_size=5)


def test_more_at_once_in_one_domain_needs_more_beside_them():
    def of(*domains: tuple[int, float]) -> int:
        return cover(domains=domains, replace_h=0.1, short_usd_per_h=100.0, extra_usd_per_h=0.1, most=4)

    assert of(*[(1, 0.1)] * 4) == 1
    assert of(*[(2, 0.1)] * 2) == 2
    assert of() == 0


def test_what_costs_more_than_the_shortage_is_not_rented():
    assert cover(domains=[(2, 0.01)], replace_h=0.1, short_usd_per_h=10.0, extra_usd_per_h=1.0, most=4) == 0


@given(domains_of, st.floats(0.01, 2), st.floats(0, 1000), st.floats(0.01, 10), st.integers(0, 6))
def test_it_is_the_cheapest_and_dearer_extras_are_never_more(domains, replace_h, short, price, most):
    def at(extra_price: float) -> int:
        return cover(
            domains=domains,
            replace_h=replace_h,
            short_usd_per_h=short,
            extra_usd_per_h=extra_price,
            most=most,
        )

    assert 0 <= at(2 * price) <= at(price) <= most
    assert at(price) <= max((count for count, _ in domains), default=0)
