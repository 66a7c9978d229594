"""What would be left if a region, cluster or pool were emptied."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from controlplane.placement import (
    FailureDomain,
    PerformanceProfile,
    PlacementProblem,
    certify,
    solve,
)
from controlplane.placement.questions.drain import DrainCheck, Drained, drain_check, drained, pool_ids_in
from tests.controlplane.placement.questions.test_elastic import REGIONS, europe
from tests.controlplane.placement.random_worlds import whole_problems
from tests.controlplane.placement.worlds import adopted, problem, wanted
from tests.support.examples import examples


def region(name: str) -> FailureDomain:
    return FailureDomain(kind="region", name=name)


def checked(before: PlacementProblem, domain: FailureDomain) -> DrainCheck:
    """Of a world in which the plan of this problem has been carried out."""
    plan = solve(before)
    return drain_check(adopted(before, plan), plan, Drained(domain=domain))


def test_two_regions_of_three_cannot_give_one_up() -> None:
    """Two regions hold 2 each, so that the loss of one leaves 2; with one of them N+1 is gone, and it is said where."""
    chat = wanted(survivability="region", residency=("eu",), min_replicas=2, max_replicas=8)
    check = checked(europe(chat, instances=(2, 2, 0)), region("eu-north"))
    (short,) = check.shortfalls
    assert short.deployment_id == "d-chat"
    assert short.refusal.rule == "survivability"
    assert short.refusal.value.startswith("under N+1 in jurisdiction eu: losing ")
    assert "0 of 2 promised replicas" in short.refusal.value
    assert short.refusal.remedy.startswith("add 2 h100-1x (2 H100) to pool eu-south/on-demand")
    assert [(kept.jurisdiction, kept.replicas_now, kept.replicas_after) for kept in check.kept] == [
        ("eu", 4, 2)
    ]


def test_a_third_region_takes_over() -> None:
    """The same with room elsewhere: nothing is short, and what has to start there is counted, with its cold start."""
    chat = wanted(survivability="region", residency=("eu",), min_replicas=2, max_replicas=8)
    profile = PerformanceProfile(
        model_version_id="m",
        instance_type_id="i-1",
        tensor_parallel=1,
        requests_per_s=1.0,
        tokens_per_s=100.0,
        concurrency=8,
        weight_load_s=40.0,
        engine_start_s=20.0,
    )
    check = checked(
        europe(chat, instances=(2, 2, 2), prices=(1, 1, 9), profiles=(profile,)), region("eu-north")
    )
    assert check.shortfalls == ()
    assert check.replicas == 2
    (arrival,) = check.arrivals
    assert (arrival.pool_id, arrival.replicas, arrival.cold_start_s) == ("p-eu-south-on_demand", 2, 60.0)


def test_without_a_survivability_a_move_is_no_risk_but_nowhere_is() -> None:
    """Whoever promised no survival moves; where residency leaves no place, nothing would be left."""
    assert checked(problem(wanted()), region("us")).shortfalls == ()
    (short,) = checked(problem(wanted(residency=("us",))), region("us")).shortfalls
    assert short.refusal.rule == "nowhere"
    assert short.refusal.value == "with nothing in jurisdiction us"


def test_what_is_broken_already_forbids_no_drain_that_leaves_it_as_it_is() -> None:
    """A promise that nobody keeps now is no reason to keep a machine from its repair."""
    chat = wanted(survivability="region", residency=("eu",), min_replicas=2, max_replicas=8)
    before = europe(chat, instances=(2, 0, 2))
    plan = solve(before)
    poor = replace(
        adopted(before, plan),
        current=tuple(row for row in adopted(before, plan).current if row.pool_id == "p-eu-west-on_demand"),
    )
    south = drain_check(poor, plan, Drained(domain=region("eu-south")))
    assert (south.replicas, south.shortfalls) == (0, ())


def test_who_lacks_a_replica_already_takes_the_room_first_that_a_drain_would_need() -> None:
    """The one place in eu came free since; the drain itself would give it to whom it was promised before."""
    first = wanted("first", residency=("eu",), priority=9)
    before = problem(first, wanted("second", residency=("us", "eu")))
    full = replace(before, pools=(replace(before.pools[0], capacity_instances=0), *before.pools[1:]))
    plan = solve(full)
    assert plan.by_deployment["d-first"].refusal
    free = replace(
        adopted(full, plan), pools=(replace(before.pools[0], capacity_instances=1), *before.pools[1:])
    )
    (short,) = drain_check(free, plan, Drained(domain=region("us"))).shortfalls
    assert short.deployment_id == "d-second"


def test_nothing_that_is_not_there_is_checked() -> None:
    """A name that no pool lies in is an error that says so."""
    with pytest.raises(ValueError, match="nothing is in region mars"):
        drain_check(problem(wanted()), None, Drained(domain=region("mars")))


def test_a_drained_pool_has_no_room_and_says_why() -> None:
    """Whatever runs there is to leave but serves on, unless somebody accepted that it may stop."""
    world = drained(problem(wanted()), [Drained(domain=region("us"))])
    (us,) = (row for row in world.pools if row.cluster_id == "c-us")
    assert (us.capacity_instances, us.leaving, us.closed) == (0, True, "region us is being drained")
    risky = drained(problem(wanted()), [Drained(domain=region("us"), risk_accepted=True)])
    assert not next(row for row in risky.pools if row.cluster_id == "c-us").leaving
    assert drained(problem(wanted()), []) == problem(wanted())


@given(
    room=st.tuples(*[st.integers(0, 3)] * 3),
    least=st.integers(1, 3),
    most=st.integers(1, 6),
    gone=st.sampled_from(REGIONS),
)
@settings(max_examples=examples(150), deadline=None)
def test_n_plus_one_is_refused_exactly_where_no_spread_keeps_it(
    room: tuple[int, int, int], least: int, most: int, gone: str
) -> None:
    """Against all spreads of replicas over what is left, counted one by one."""
    assume(least <= most)

    def possible(rooms: list[int]) -> bool:
        return any(
            sum(spread) <= most and sum(spread) - max(spread) >= least
            for spread in product(*(range(count + 1) for count in rooms))
        )

    chat = wanted(survivability="region", min_replicas=least, max_replicas=most)
    before = europe(chat, instances=room)
    plan = solve(before)
    assume(possible(list(room)))
    check = drain_check(adopted(before, plan), plan, Drained(domain=region(gone)))
    left = [count for name, count in zip(REGIONS, room, strict=True) if name != gone]
    runs_there = any(row.pool_id == f"p-{gone}-on_demand" for row in adopted(before, plan).current)
    assert bool(check.shortfalls) == (runs_there and not possible(left))


@given(before=whole_problems(), kind=st.sampled_from(("region", "cluster", "pool")), number=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_whoever_loses_a_promise_is_named_and_whoever_keeps_it_is_not(
    before: PlacementProblem, kind: str, number: int
) -> None:
    """In any world: nothing is sent into what is emptied, and shortfalls are the promises that the drain breaks."""
    assume(before.pools)
    plan = solve(before)
    world = replace(adopted(before, plan), occupancies=())
    pool = world.pools[number % len(world.pools)]
    cluster = world.cluster_by_id[pool.cluster_id]
    names = {"region": cluster.region, "cluster": cluster.name, "pool": f"{cluster.name}/{pool.name}"}
    domain = FailureDomain(kind=kind, name=names[kind])  # type: ignore[arg-type]
    check = drain_check(world, plan, Drained(domain=domain))
    gone = pool_ids_in(world, domain)
    assert pool.pool_id in gone
    assert not {arrival.pool_id for arrival in check.arrivals} & gone
    short = {one.deployment_id for one in check.shortfalls}
    touched = {row.deployment_id for row in world.current if row.pool_id in gone}
    assert short <= touched
    without = drained(world, [Drained(domain=domain)])
    kept_now = {row.deployment_id for row in certify(world, plan).promises if row.kept}
    after = solve(without)
    promised = [row for row in certify(without, after).promises if row.kept]
    kept_after = {row.deployment_id for row in promised}
    whole_after = {row.deployment_id for row in promised if not row.admitted}  # no wish is given up for it
    if len(touched) == len(world.deployments) == 1:  # alone, it gets then what a solve from nothing gives it
        assert bool(short) <= (not whole_after >= touched)
        assert not (touched & kept_now) - kept_after - short
