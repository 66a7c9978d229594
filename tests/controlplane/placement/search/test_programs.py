"""What a program of one deployment says of what it costs at least."""

import numpy as np
import pytest

from controlplane.placement.search.batches import Prices
from controlplane.placement.search.carried import Carried
from controlplane.placement.search.columns import column
from controlplane.placement.search.offers import Offers
from controlplane.placement.search.programs import Program
from tests.benchmarks.placement.instances import instance
from tests.controlplane.placement.worlds import pool, problem, wanted

WORLD = instance(deployments=10, pools=12, regions=4, seed=4)


def at_rent(offers: Offers) -> Prices:
    count = len(offers.pools.room_gpus)
    rent = offers.pools.rent_micro_usd_per_gpu_h.astype(float)
    return Prices(used=rent, scarce=np.zeros(count), budget=np.zeros(len(offers.budget)))


def test_who_lacks_replicas_lacks_one_at_least() -> None:
    """Nothing bounds the traffic of who lacks some: with all of them it would seem cheaper than it is."""
    offers = Offers(problem(wanted("a"), pools=(pool("eu"),)))
    offer = offers.offer(0, short=True)
    assert Program(offer, offers.pools).solve(at_rent(offers), 0.0, whole=True).bound >= offer.missing > 0


def test_what_costs_no_less_than_what_is_known_is_not_looked_for() -> None:
    """And that is the bound then; what costs less is found."""
    offers = Offers(WORLD)
    offer = max((offers.offer(number) for number in range(10)), key=lambda one: one.needs.size)
    program, prices = Program(offer, offers.pools), at_rent(offers)
    cheapest = program.solve(prices, 0.0, whole=True)
    known = program.solve(prices, 0.0, whole=True, most=cheapest.bound)
    assert known.replicas is None or known.bound <= cheapest.bound
    assert known.bound == pytest.approx(cheapest.bound, rel=2e-4)
    dearer = program.solve(prices, 0.0, whole=True, most=1.5 * cheapest.bound)
    assert dearer.replicas is not None and dearer.bound == pytest.approx(cheapest.bound, rel=2e-4)


def test_traffic_of_many_ways_costs_what_it_costs_in_each_alone() -> None:
    """Replicas by chance, in one region or in several; no bound is above, and where nothing is open it is exact."""
    offers, rng, seen = Offers(WORLD), np.random.default_rng(1), 0
    for number in range(10):
        offer = offers.offer(number)
        if offer.passive or offer.needs.served < 1:
            continue
        ways = rng.integers(0, 3, (40, len(offer.pools))) * rng.integers(0, 2, (40, len(offer.pools)))
        ways = ways[(ways @ offer.share) >= 1]
        carried = Carried(offers, offer, ways)
        for way, replicas in enumerate(ways):
            alone = column(offers, offer, replicas)
            moved = np.dot(offer.refused, np.maximum(replicas - offer.held, 0)) + np.dot(
                offer.leaving, offer.held - np.minimum(replicas, offer.held)
            )
            traffic = alone.cost - alone.broken - offer.gone - moved
            least = carried.nearest[way] + carried.over[way]
            assert least <= traffic + 1 + 1e-6 * traffic
            if not carried.open[way]:
                assert least == pytest.approx(traffic, rel=1e-6, abs=1)
            assert carried.exactly(way) == pytest.approx(traffic, rel=1e-6, abs=1)
            seen += carried.over[way] > 1
    assert seen > 20
