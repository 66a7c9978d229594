"""What holds for every plan, on random worlds. Checked from the plan alone, with arithmetic of its own."""

import pickle
import re
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.placement import (
    PlacementPlan,
    PlacementProblem,
    Pool,
    WantedDeployment,
    certify,
    plan_decode,
    plan_encode,
    problem_decode,
    problem_encode,
    problem_sha256,
    solve,
)
from controlplane.placement.rules.capacity import packs
from tests.controlplane.placement.worlds import adopted, problems
from tests.support.examples import examples
from workloadplane.protocol.refusal import Refusal


def check(problem: PlacementProblem, plan: PlacementPlan) -> None:
    """Every rule that no plan may break."""
    gpus: Counter[str] = Counter()
    sizes: dict[str, Counter[int]] = {}
    assert [entry.deployment_id for entry in plan.deployments] == [
        d.deployment_id for d in problem.deployments
    ]
    for entry in plan.deployments:
        deployment = problem.deployment_by_id[entry.deployment_id]
        assert entry.allocations or entry.refusal, "neither placed nor told why not"
        least = sum(row.min_replicas for row in entry.allocations)
        assert sum(row.max_replicas for row in entry.allocations) <= deployment.max_replicas
        if entry.refusal is None and "replicas" not in {wish.rule for wish in entry.relaxed}:
            assert least >= deployment.min_replicas
        clusters = set()
        for row in entry.allocations:
            pool = problem.pool_by_id[row.pool_id]
            cluster = problem.cluster_by_id[pool.cluster_id]
            if not row.standby:
                clusters.add(cluster.cluster_id)
            assert not deployment.residency or cluster.jurisdiction in deployment.residency, (
                "outside its residency"
            )
            assert row.gpus_per_replica <= pool.gpus_per_instance
            assert 0 <= row.min_replicas <= row.max_replicas and row.max_replicas >= 1
            assert row.room_replicas <= row.max_replicas
            assert not row.standby or deployment.posture == "active_passive"
            assert row.max_replicas * row.gpus_per_replica <= pool.capacity_instances * pool.gpus_per_instance
            if row.revision_id == deployment.revision_id:
                assert deployment.precision in pool.precisions
            gpus[row.pool_id] += row.room_replicas * row.gpus_per_replica
            sizes.setdefault(row.pool_id, Counter())[row.gpus_per_replica] += row.room_replicas
        if deployment.posture == "active_passive":
            assert len(clusters) <= 1, "two places serve"
    for pool in problem.pools:
        assert gpus[pool.pool_id] <= pool.capacity_instances * pool.gpus_per_instance, "over capacity"
        assert packs(
            instances=pool.capacity_instances,
            gpus_per_instance=pool.gpus_per_instance,
            replicas_by_gpus=sizes.get(pool.pool_id, {}),
        )


@settings(max_examples=examples(300), deadline=None)
@given(problems())
def test_no_rule_is_broken_and_every_no_has_a_reason(problem: PlacementProblem) -> None:
    """Capacity, residency, bounds and posture hold in any world; a deployment is placed or told why not."""
    check(problem, solve(problem))


@settings(max_examples=examples(150), deadline=None)
@given(problems())
def test_new_allocations_go_only_where_it_is_open(problem: PlacementProblem) -> None:
    """A closed cluster or pool gets nothing new, nor does one whose price nobody knows."""
    for entry in solve(problem).deployments:
        for row in entry.allocations:
            pool = problem.pool_by_id[row.pool_id]
            assert not pool.closed and not problem.cluster_by_id[pool.cluster_id].closed
            assert pool.instance_micro_usd_per_h is not None


@settings(max_examples=examples(150), deadline=None)
@given(problems(), st.randoms(use_true_random=False))
def test_equal_problems_give_equal_plans_also_after_storage(problem: PlacementProblem, order) -> None:
    """Deterministic, and independent of the order in which pools were read; JSON loses nothing."""
    plan = solve(problem)
    copied = pickle.loads(pickle.dumps(problem))  # noqa: S301 (made here)
    assert solve(copied) == plan, "another process gets what was worked out here"
    stored = problem_decode(problem_encode(problem))
    assert stored == problem
    assert problem_sha256(stored) == problem_sha256(problem)
    assert plan_decode(plan_encode(plan)) == plan == solve(stored)
    shuffled = list(problem.pools)
    order.shuffle(shuffled)
    assert solve(replace(problem, pools=tuple(shuffled))) == plan


@settings(max_examples=examples(150), deadline=None)
@given(problems())
def test_what_was_adopted_stays(problem: PlacementProblem) -> None:
    """Solving again after adopting moves nothing. A place to start in takes no room, and may be full by then."""
    plan = solve(problem)
    again = solve(adopted(problem, plan))
    for before, after in zip(plan.deployments, again.deployments, strict=True):
        if not any(r.min_replicas or r.planned_replicas for r in before.allocations):
            continue
        assert {(r.pool_id, r.min_replicas, r.planned_replicas, r.standby) for r in before.allocations} == {
            (r.pool_id, r.min_replicas, r.planned_replicas, r.standby) for r in after.allocations
        }


@settings(max_examples=examples(200), deadline=None)
@given(problems(), st.data())
def test_the_world_may_shrink_under_what_runs(problem: PlacementProblem, data: st.DataObject) -> None:
    """Pools that lost instances, closed clusters and changed wishes never make a plan break a rule."""
    later = adopted(problem, solve(problem))
    pools = tuple(
        replace(pool, capacity_instances=data.draw(st.integers(0, pool.capacity_instances)))
        for pool in later.pools
    )
    clusters = tuple(
        replace(c, closed=data.draw(st.sampled_from((c.closed, "agent not connected"))))
        for c in later.clusters
    )
    deployments = tuple(
        replace(
            d, residency=data.draw(st.sampled_from((d.residency, ("us",)))), revision_id=d.revision_id + "+"
        )
        for d in later.deployments
    )
    later = replace(later, pools=pools, clusters=clusters, deployments=deployments)
    check(later, solve(later))


@settings(max_examples=examples(200), deadline=None)
@given(problems())
def test_a_kept_promise_is_certified(problem: PlacementProblem) -> None:
    """Whoever is placed under a survivability gets a certificate that holds, by the judge's own arithmetic."""
    plan = solve(problem)
    placed = {
        entry.deployment_id for entry in plan.deployments if entry.refusal is None and not entry.relaxed
    }
    for loss in certify(problem, plan).losses:
        kind = problem.deployment_by_id[loss.deployment_id].survivability
        if loss.deployment_id in placed and loss.domain.kind == kind:
            assert loss.verdict == "survives", loss


@settings(max_examples=examples(400), deadline=None)
@given(problems())
def test_a_remedy_with_a_number_works(problem: PlacementProblem) -> None:
    """Doing what the refusal says makes it fit; one instance less does not."""
    plan = solve(problem)
    standing = adopted(problem, plan)
    for entry in plan.deployments:
        for said in (entry.refusal, *entry.relaxed):
            if said is not None:
                _try_remedy(standing, entry.deployment_id, said, refused=said is entry.refusal)


def _content(standing: PlacementProblem, deployment: WantedDeployment) -> WantedDeployment:
    """The same, wishing for no more than it has."""
    holds = sum(row.min_replicas for row in standing.current_of(deployment.deployment_id))
    return replace(
        deployment,
        survivability="none",
        posture="active_active",
        min_replicas=holds,
        max_replicas=max(1, holds),
    )


def _try_remedy(standing: PlacementProblem, deployment_id: str, said: Refusal, *, refused: bool) -> None:
    alone = standing.deployment_by_id[deployment_id]
    others = [
        _content(standing, deployment)
        for deployment in standing.deployments
        if deployment.deployment_id != deployment_id
    ]

    def complains(problem: PlacementProblem) -> bool:
        entry = solve(problem).deployments[-1]
        rule = "replicas" if refused else said.rule
        return entry.refusal is not None or rule in {wish.rule for wish in entry.relaxed}

    world = replace(standing, deployments=(*others, alone))
    if match := re.search(r"raise autoscaling.max_replicas to (\d+)", said.remedy):
        more = replace(alone, max_replicas=int(match[1]))
        assert not complains(replace(world, deployments=(*others, more)))
    if match := re.search(r"add (\d+) \S+ \(\d+ \S+\) to pool (\S+)/([^,\s]+)", said.remedy):
        assert not complains(_grown(world, match[2], match[3], int(match[1])))
        assert complains(_grown(world, match[2], match[3], int(match[1]) - 1))


def _grown(problem: PlacementProblem, cluster: str, pool: str, instances: int) -> PlacementProblem:
    def grow(one: Pool) -> Pool:
        here = one.name == pool and problem.cluster_by_id[one.cluster_id].name == cluster
        return replace(one, capacity_instances=one.capacity_instances + instances) if here else one

    return replace(problem, pools=tuple(grow(one) for one in problem.pools))
