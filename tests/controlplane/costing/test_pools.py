"""Money in micro-dollars, reserved capacity first."""

from hypothesis import given
from hypothesis import strategies as st

from controlplane.costing import PoolTariff, pool_cost, replica_micro_usd_per_h, usd_exact, usd_printed

TARIFF = PoolTariff(
    gpus_per_instance=8,
    instance_micro_usd_per_h=80_000_000,
    reserved_instances=1,
    reserved_instance_micro_usd_per_h=40_000_000,
)


def test_reserved_gpus_cost_nothing_more_until_they_are_used_up() -> None:
    """Three replicas of 4 GPUs: two on the reservation, one rented."""
    cost = pool_cost(TARIFF, used_gpus=0, gpus_per_replica=4, replicas=3)
    assert (cost.share_micro_usd_per_h, cost.marginal_micro_usd_per_h) == (80_000_000, 40_000_000)


def test_a_reservation_that_covers_a_part_of_a_replica_does_not_count() -> None:
    """It errs on the dear side."""
    cost = pool_cost(TARIFF, used_gpus=6, gpus_per_replica=4, replicas=1)
    assert cost.marginal_micro_usd_per_h == 40_000_000


@given(st.integers(0, 10**12), st.integers(1, 16), st.integers(1, 16))
def test_shares_of_a_full_instance_are_never_less_than_its_price(price: int, gpus: int, parts: int) -> None:
    """Rounding up never loses money, and costs less than a micro-dollar a replica."""
    share = replica_micro_usd_per_h(instance_micro_usd_per_h=price, gpus_per_instance=gpus * parts, gpus=gpus)
    assert price <= share * parts < price + parts


def test_small_amounts_are_never_printed_as_nothing() -> None:
    """A price below a tenth of a cent keeps its digits."""
    assert (usd_printed(1_205_000), usd_printed(4), usd_printed(0)) == ("1.205", "0.000004", "0.000")
    assert (usd_exact(4_096_575), usd_exact(-1_000_000), usd_exact(0)) == ("4.096575", "-1.000", "0.000")
