"""Every way that could be in a better plan is listed; and no bound that is proven from the lists is wrong."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings

from controlplane.placement import PlacementProblem, priced, solve
from controlplane.placement.search.batches import Prices
from controlplane.placement.search.clock import Clock
from controlplane.placement.search.columns import column, lawful, paid
from controlplane.placement.search.improve import Effort, Search
from controlplane.placement.search.offers import Offer
from controlplane.placement.search.ways import Listing, TooManyError, Ways
from tests.benchmarks.placement.bounds import world, wrongs
from tests.benchmarks.placement.instances import instance
from tests.controlplane.placement.random_worlds import whole_problems

#: So many ways are tried one by one.
_TRIED = 4_000


@settings(max_examples=40, deadline=None)
@given(whole_problems())
def test_no_way_is_missing_that_costs_no_more(asked: PlacementProblem) -> None:
    """All lawful numbers of replicas, tried one by one, at the prices that a search comes to."""
    search = Search(asked, priced(asked, solve(asked)), Effort(), np.random.default_rng(0))
    if not search.chosen:
        return
    search.bidding.run(3, Clock(None))
    for offer in search.demanders.every():
        if not offer.passive and not offer.short:
            _compare(search, offer)


def _compare(search: Search, offer: Offer) -> None:
    sizes = np.minimum(offer.limit, offer.needs.size + 1)
    if np.prod(sizes + 1.0) > _TRIED:
        return
    prices = search.bidding.proven[-1].prices
    costs = {}
    for replicas in product(*(range(size + 1) for size in sizes)):
        if lawful(offer, np.array(replicas)):
            costs[replicas] = paid(search.offers, column(search.offers, offer, np.array(replicas)), prices)
    if not costs:
        return
    spare = sorted(costs.values())[len(costs) // 2]
    found = _listed(search, offer, prices, spare, most=10**6)
    listed = {tuple(map(int, one)) for one in found.replicas}
    for replicas, cost in costs.items():
        if cost <= spare and replicas not in listed:
            assert _has_idle(replicas, costs), replicas


def _listed(search: Search, offer: Offer, prices: Prices, spare: float, *, most: int) -> Ways:
    program = search.demanders.program(offer)
    return Listing(search.offers, offer, program, [prices], most=most).ways([spare])


def _has_idle(replicas: tuple[int, ...], costs: dict[tuple[int, ...], float]) -> bool:
    """Whether it is another way with a replica more, which costs as much at least."""
    for place, count in enumerate(replicas):
        less = (*replicas[:place], count - 1, *replicas[place + 1 :])
        if count and costs.get(less, np.inf) <= costs[replicas] + 1:
            return True
    return False


def test_too_many_ways_are_an_error() -> None:
    """Whoever asks says how many are too many."""
    asked = instance(deployments=8, pools=10, regions=3, seed=1)
    search = Search(asked, solve(asked), Effort(), np.random.default_rng(0))
    search.bidding.run(3, Clock(None))
    proven = search.bidding.proven[-1]
    offer = max(search.demanders.every(), key=lambda one: one.needs.size)
    with pytest.raises(TooManyError):
        _listed(search, offer, proven.prices, 100 * proven.bounds[offer.number], most=10)


def test_large_deployments_have_few_ways_near_their_least_too() -> None:
    """Eight replicas on eleven pools, one loss of five to be survived."""
    asked = instance(deployments=10, pools=12, regions=4, seed=11)
    search = Search(asked, priced(asked, solve(asked)), Effort(), np.random.default_rng(0))
    search.bidding.run(12, Clock(None))
    proven = max(search.bidding.proven, key=lambda one: one.bound)
    offer = max(search.demanders.every(), key=lambda one: one.needs.size)
    spare = 1.01 * proven.bounds[offer.number]
    assert len(_listed(search, offer, proven.prices, spare, most=40_000).own) < 500


@pytest.mark.parametrize("number", range(24))
def test_no_plan_is_cheaper_than_the_bound_on_any(number: int) -> None:
    """Small worlds of every kind, also with too little capacity and money, against one program for all of it."""
    assert list(wrongs(world(number))) == []


def test_prices_at_which_nothing_was_shown_leave_nothing_out() -> None:
    """A linear program that HiGHS gives up at the last prices, which lie far above all that GPUs cost."""
    assert list(wrongs(world(68, seed=5))) == []


def test_who_lacks_replicas_has_one_at_least() -> None:
    """None at all is no way: it was named in the place of the better plan, and made none."""
    assert list(wrongs(world(5, seed=7))) == []


def test_what_was_found_is_what_is_written_down() -> None:
    """One replica more than the minimum stays for nothing on reserved GPUs; without its room it cost a start."""
    assert list(wrongs(world(177))) == []
