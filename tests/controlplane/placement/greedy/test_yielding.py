"""Spares yield to what others need with nothing lost: whose, to whom, and what nobody loses by it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings

from controlplane.placement import (
    Allocation,
    Budget,
    Latency,
    Occupancy,
    PlacementPlan,
    PlacementProblem,
    Slo,
    WantedDeployment,
    certify,
    resolve,
    solve,
)
from controlplane.placement.rules.capacity import Ledger
from controlplane.placement.rules.filters import open_to_new
from controlplane.placement.rules.needs import index_of, missing_replicas
from controlplane.placement.rules.occupancy import beyond_successors, promised_first
from controlplane.placement.rules.traffic import too_far
from tests.controlplane.placement.random_worlds import whole_problems
from tests.controlplane.placement.rules.test_cost import demand
from tests.controlplane.placement.test_judged import check
from tests.controlplane.placement.worlds import POOLS, adopted, placed, pool, problem, wanted
from tests.support.examples import examples

ONE_EACH = tuple(replace(one, capacity_instances=1) for one in POOLS[:2])


def rooms(plan: PlacementPlan) -> list[int]:
    return [sum(row.room_replicas for row in entry.allocations) for entry in plan.deployments]


def test_a_spare_yields_to_a_minimum() -> None:
    """Two GPUs in two regions for two equal newcomers: one each, and both are told what that costs them."""
    plan = solve(problem(*(wanted(name, survivability="region") for name in ("a", "b")), pools=ONE_EACH))
    assert rooms(plan) == [1, 1]
    assert [[wish.rule for wish in entry.relaxed] for entry in plan.deployments] == [["survivability"]] * 2
    assert "its spare went to another deployment that needs it more" in {
        wish.value.rsplit("; ", 1)[-1] for entry in plan.deployments for wish in entry.relaxed
    }


def test_nobody_holds_a_spare_while_somebody_is_refused() -> None:
    """A hundred on ninety GPUs: ninety have what they need, and ten wait for more GPUs, not for others."""
    crowd = (
        wanted(f"e{n:03}", survivability="region", max_replicas=6, created_at_s=float(n)) for n in range(100)
    )
    world = problem(*crowd, pools=tuple(replace(one, capacity_instances=30) for one in POOLS))
    plan = solve(world)
    assert sorted(rooms(plan)) == [0] * 10 + [1] * 90
    assert all(entry.refusal is not None for entry in plan.deployments[90:]), "the youngest wait"
    assert not certify(world, plan).broken_rules
    assert rooms(solve(adopted(world, plan))) == rooms(plan)


@pytest.mark.parametrize(("running", "new"), [(0, 9), (5, 5), (9, 0)])
@pytest.mark.parametrize("by_event", [False, True])
def test_anybodys_spare_yields_also_of_who_runs(running: int, new: int, by_event: bool) -> None:
    """Kinds of wishes come before priorities; what the first needs stays where it is."""
    first, second = wanted("a", survivability="region", priority=running), wanted("b", priority=new)
    world = problem(first, pools=ONE_EACH)
    plan = solve(world)
    after = replace(adopted(world, plan), deployments=(first, second))
    again = resolve(after, plan, {"d-b"}) if by_event else solve(after)
    assert rooms(again) == [1, 1]
    assert set(placed(again, "a")) < set(placed(plan, "a"))
    check(after, again)


def test_who_was_given_a_spare_keeps_it_while_it_drains() -> None:
    """The next plans neither refuse it nor let the two change places."""
    first, second = wanted("a", survivability="region"), wanted("b")
    world = problem(first, pools=ONE_EACH)
    plan = solve(world)
    joined = replace(adopted(world, plan), deployments=(first, second))
    again = resolve(joined, plan, {"d-b"})
    (left,) = set(placed(plan, "a")) - set(placed(again, "a"))
    gone = Occupancy(deployment_id="d-a", pool_id=left, gpus_per_replica=1, replicas=1)
    after = promised_first(replace(adopted(joined, again), occupancies=(gone,)))
    for later in (solve(after), *(resolve(after, again, touched) for touched in ({"d-a"}, {"d-b"}, ()))):
        assert [placed(later, name) for name in "ab"] == [placed(again, name) for name in "ab"]
        check(after, later)


def test_what_leaves_room_that_nobody_was_promised_counts_as_taken() -> None:
    """Two of four instances are on their way out, one of them from under a successor of its own: one is counted."""
    one = adopted(problem(wanted("a")), solve(problem(wanted("a"))))
    (pool_id,) = {row.pool_id for row in one.current}
    gone = Occupancy(deployment_id="d-a", pool_id=pool_id, gpus_per_replica=1, replicas=2)
    other = Occupancy(deployment_id="d-gone", pool_id=pool_id, gpus_per_replica=1, replicas=4)
    assert promised_first(replace(one, occupancies=(gone,))).occupancies == (gone,)
    counted = promised_first(replace(one, occupancies=(gone, other))).occupancies
    assert [row.replicas for row in counted] == [2, 2], "beside the one that runs, no more than the pool has"


def test_an_event_takes_no_more_spares_than_it_needs() -> None:
    """Three hold spares; one gives way and the entries of the others are the very same."""
    crowd = tuple(
        wanted(f"e{n}", survivability="region", priority=n, max_replicas=2, created_at_s=float(n))
        for n in range(3)
    )
    world = problem(*crowd, pools=tuple(replace(one, capacity_instances=3) for one in POOLS[:2]))
    plan = solve(world)
    after = replace(adopted(world, plan), deployments=(*crowd, wanted("new")))
    again = resolve(after, plan, {"d-new"})
    assert rooms(again) == [1, 2, 2, 1]
    assert again.deployments[1:3] == plan.deployments[1:3]
    later = resolve(adopted(after, again), again, {"d-e0"})
    assert later.deployments[0].relaxed == again.deployments[0].relaxed, "it is still said why"


@pytest.mark.parametrize(
    ("fields", "gives"),
    [
        (
            (
                {"priority": 1, "created_at_s": 3.0},
                {"created_at_s": 1.0},
                {"priority": 1, "created_at_s": 4.0},
            ),
            1,
        ),
        (({"created_at_s": 1.0}, {"created_at_s": 3.0}, {"created_at_s": 2.0}), 1),
    ],
)
def test_the_lower_priority_gives_way_then_the_younger(
    fields: Sequence[dict[str, float]], gives: int
) -> None:
    """Of three with a spare each, one is asked."""
    crowd = [wanted(f"e{n}", survivability="region", **more) for n, more in enumerate(fields)]
    world = problem(
        *crowd,
        wanted("last", priority=-1, created_at_s=9.0),
        pools=tuple(replace(one, capacity_instances=3) for one in POOLS[:2]),
    )
    assert rooms(solve(world)) == [1 if n == gives else 2 for n in range(3)] + [1]


def test_a_newcomer_gives_way_before_who_runs() -> None:
    """Whoever is younger: the one that runs keeps its spare."""
    old, new = (
        wanted(name, survivability="region", created_at_s=at) for name, at in (("old", 5.0), ("new", 1.0))
    )
    pools = tuple(replace(one, capacity_instances=2) for one in POOLS[:2])
    world = problem(old, pools=pools)
    after = replace(
        adopted(world, solve(world)), deployments=(old, new, wanted("last", priority=-1, created_at_s=9.0))
    )
    assert rooms(solve(after)) == [2, 1, 1]


def test_a_standby_yields_and_what_serves_stays() -> None:
    """Three serve in one region and three stand by in the other: a newcomer gets one of these."""
    first = wanted("a", survivability="region", posture="active_passive", min_replicas=3, max_replicas=6)
    world = problem(first, pools=tuple(replace(one, capacity_instances=3) for one in POOLS[:2]))
    plan = solve(world)
    after = replace(adopted(world, plan), deployments=(first, wanted("b")))
    again = solve(after)
    serving = {row.pool_id for row in plan.deployments[0].allocations if not row.standby}
    assert set(placed(again, "a")) == serving and rooms(again)[1] == 1


def test_several_spares_make_room_for_one_large_replica() -> None:
    """Two of two instances' GPUs are spares: both give way to one that needs two in one instance."""
    pools = tuple(pool(name, gpus_per_instance=2, capacity_instances=1) for name in ("eu", "us"))
    pair = tuple(wanted(name, survivability="region") for name in ("a", "b"))
    world = problem(*pair, pools=pools)
    after = replace(adopted(world, solve(world)), deployments=(*pair, wanted("large", gpus_per_replica=2)))
    plan = solve(after)
    assert rooms(plan) == [1, 1, 1]
    check(after, plan)


def test_what_is_left_of_a_large_spare_is_for_the_next() -> None:
    """One of four GPUs gives way to one of one: the next finds three GPUs free."""
    large = wanted("large", gpus_per_replica=4, min_replicas=2, survivability="zone", priority=1)
    world = problem(
        *(wanted(name, max_replicas=1, created_at_s=2.0) for name in ("a", "b")),
        large,
        pools=tuple(pool(name, gpus_per_instance=8, capacity_instances=1) for name in ("eu", "us")),
    )
    assert rooms(solve(replace(world, deployments=(large,)))) == [4]
    assert rooms(solve(world)) == [1, 1, 2]


def test_a_spare_yields_to_nearness() -> None:
    """Survivability gives way before latency: who waits 0.2 s goes where the spare of one was that runs."""
    first, near = wanted("a", survivability="region"), wanted("near", slo=Slo(ttft_s_p95=0.2))
    world = problem(
        first,
        pools=(replace(POOLS[0], capacity_instances=1), *POOLS[1:]),
        demands=(demand("paris", deployment_id="d-near"),),
        latencies=tuple(
            Latency(origin_region="paris", target_region=name, rtt_ms=rtt)
            for name, rtt in (("us", 300), ("eu", 15), ("jp", 250))
        ),
    )
    before = solve(world)
    assert placed(before, "a") == {"p-us-on_demand": 1, "p-eu-on_demand": 1}
    plan = solve(replace(adopted(world, before), deployments=(first, near)))
    assert placed(plan, "near") == {"p-eu-on_demand": 1}
    assert placed(plan, "a") == {"p-us-on_demand": 1, "p-jp-on_demand": 1}, "its spare found another place"
    assert plan.deployments[0].relaxed == ()


def test_a_projects_money_goes_to_minima_first() -> None:
    """Three USD/h pay for a pair of replicas in two regions, or for one each in the cheaper one."""
    world = problem(
        wanted("a", survivability="region"),
        wanted("b", created_at_s=2.0),
        pools=POOLS[:2],
        budgets=(Budget(project_id="project", micro_usd_per_h=3_000_000),),
    )
    assert rooms(solve(world)) == [1, 1]


def test_a_spare_that_helps_nobody_stays() -> None:
    """A newcomer that must stay in Japan cannot use what is spare in Europe."""
    world = problem(
        wanted("a", survivability="region", residency=("eu", "us")),
        wanted("b", residency=("jp",), min_replicas=5, max_replicas=5),
    )
    plan = solve(world)
    assert rooms(plan) == [2, 4] and plan.deployments[0].relaxed == ()


@settings(max_examples=examples(400), deadline=None)
@given(whole_problems())
def test_nobody_is_short_while_a_spare_that_would_serve_it_is_held(world: PlacementProblem) -> None:
    """No replica can be taken from who keeps enough and given to who then lacks less."""
    plan = solve(world)
    index = index_of(world)
    budgeted = {row.project_id for row in world.budgets}
    for entry in plan.deployments:
        deployment = world.deployment_by_id[entry.deployment_id]
        if (
            deployment.project_id in budgeted
            or deployment.posture == "active_passive"
            or (deployment.min_replicas == 0 and index.needs(deployment).served == 0)
            or (entry.refusal is not None and entry.allocations)
        ):
            continue
        lacks = missing_replicas(index, deployment, entry.allocations)
        if not lacks or sum(row.room_replicas for row in entry.allocations) >= deployment.max_replicas:
            continue
        for giver, pool_id in _spares(world, plan):
            if giver != entry.deployment_id and _would_fit(world, plan, deployment, giver, pool_id):
                more = (*entry.allocations, _one_in(deployment, pool_id))
                assert missing_replicas(index, deployment, more) >= lacks, (
                    entry.deployment_id,
                    giver,
                    pool_id,
                )


@settings(max_examples=examples(200), deadline=None)
@given(whole_problems())
def test_nobody_who_runs_loses_what_it_needs(world: PlacementProblem) -> None:
    """Newcomers take spares of what was adopted, and no more."""
    half = replace(world, deployments=world.deployments[::2], current=())
    plan = solve(half)
    before = adopted(half, plan)
    after = replace(before, deployments=world.deployments)
    again = solve(after)
    check(after, again)
    index = index_of(after)
    for entry in plan.deployments:
        deployment = after.deployment_by_id[entry.deployment_id]
        now = again.by_deployment[entry.deployment_id].allocations
        assert missing_replicas(index, deployment, now) <= missing_replicas(
            index, deployment, entry.allocations
        )


def _spares(world: PlacementProblem, plan: PlacementPlan) -> Sequence[tuple[str, str]]:
    """(deployment id, pool id) where one replica less is enough with nothing lost."""
    index, found = index_of(world), []
    for entry in plan.deployments:
        deployment = world.deployment_by_id[entry.deployment_id]
        if deployment.survivability == "none" or entry.refusal is not None:
            continue
        for row in entry.allocations:
            if row.room_replicas:
                others = tuple(one for one in entry.allocations if one is not row)
                if not missing_replicas(index, deployment, (*others, *_one_less(row))):
                    found.append((entry.deployment_id, row.pool_id))
    return found


def _one_less(row: Allocation) -> tuple[Allocation, ...]:
    left = row.room_replicas - 1
    less = replace(
        row, min_replicas=min(left, row.min_replicas), planned_replicas=min(left, row.planned_replicas)
    )
    return (less,) if left else ()


def _one_in(deployment: WantedDeployment, pool_id: str) -> Allocation:
    return Allocation(
        revision_id=deployment.revision_id,
        revision=deployment.revision,
        pool_id=pool_id,
        min_replicas=1,
        planned_replicas=1,
        max_replicas=1,
        gpus_per_replica=deployment.gpus_per_replica,
        micro_usd_per_h=0,
        marginal_micro_usd_per_h=0,
        reasons=(),
    )


def _would_fit(
    world: PlacementProblem, plan: PlacementPlan, deployment: WantedDeployment, giver: str, pool_id: str
) -> bool:
    pool_ = world.pool_by_id[pool_id]
    cluster_ = world.cluster_by_id[pool_.cluster_id]
    index = index_of(world)
    if (
        pool_ not in index.usable(deployment)
        or open_to_new(deployment, pool_, cluster_)
        or too_far(world, deployment, cluster_)
        or (index.needs(deployment).served > 0 and not index.needs(deployment).share(pool_))
    ):
        return False
    ledger = Ledger(world.pools)
    for entry in plan.deployments:
        rows: list[Allocation] = []
        for row in entry.allocations:
            taken = entry.deployment_id == giver and row.pool_id == pool_id
            rows += _one_less(row) if taken else (row,)
        for row in rows:
            ledger.add(row.pool_id, row.gpus_per_replica, row.room_replicas)
        own = [one for one in world.occupancies if one.deployment_id == entry.deployment_id]
        for place, gpus, replicas in beyond_successors(own, rows):
            ledger.add(place, gpus, replicas)
    return ledger.headroom(pool_id, deployment.gpus_per_replica) > 0
