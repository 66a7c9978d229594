"""How load is attributed, a count decided, dealt out to pools, told of, and gone on from after a restart."""

import msgspec
import pytest

from tests.workloadplane.agent.conftest import DEPLOYMENT, REVISION, assignment
from workloadplane.agent.disk import ScalingFile
from workloadplane.agent.gateways import Finished, RevisionLoad
from workloadplane.agent.record import ReplicaRecord, facts_of
from workloadplane.agent.scaling import Scaling, Supply
from workloadplane.agent.work_meter import WorkMemory, WorkMeter
from workloadplane.autoscaling import TokenWork
from workloadplane.engines.base import EngineMetrics
from workloadplane.protocol.desired import DesiredAssignment, PoolBound
from workloadplane.protocol.observed import ScalingDecision
from workloadplane.protocol.usage import LATENCY_BUCKETS_S

KEY = (DEPLOYMENT, REVISION)


def pool(name: str, procurement: str) -> PoolBound:
    return PoolBound(
        pool_id=name,
        name=name,
        procurement=procurement,
        instance_type="h100.1",
        gpus_per_instance=1,
        capacity_gpus=8,
    )


POOLS = (pool("spot", "spot"), pool("reserved", "reserved"))


def supply(ready: dict[str, int], starting: dict[str, int] | None = None) -> Supply:
    starting = starting or {}
    alive = {name: ready.get(name, 0) + starting.get(name, 0) for name in ready.keys() | starting.keys()}
    return Supply(alive=alive, ready=ready, starting=starting)


def load(in_flight: int, waiting: int = 0) -> RevisionLoad:
    return RevisionLoad(in_flight=in_flight, waiting=waiting)


def wanted(assignments: list[DesiredAssignment], loads: dict[tuple[str, str], int]) -> dict[str, int]:
    """What is wanted after a while of steady load (requests in flight by deployment and revision)."""
    scaling = Scaling(None, now=0.0)
    seen = {key: load(count) for key, count in loads.items()}
    counts: dict[str, int] = {}
    for now in range(0, 40, 2):
        scaling.observe(assignments, seen, now=float(now))
        counts = scaling.wanted(assignments, POOLS, supply(counts), {}, now=float(now))
    return counts


def test_a_revision_on_two_pools_is_scaled_once_and_fills_the_paid_one_first() -> None:
    """The sum follows the load; the reserved pool gets it before the spot pool."""
    both = [
        assignment("a", pool_id="spot", min_replicas=1, max_replicas=4),
        assignment("b", pool_id="reserved", min_replicas=1, max_replicas=4),
    ]
    assert wanted(both, {(DEPLOYMENT, REVISION): 10}) == {"a": 1, "b": 4}
    assert wanted(both, {(DEPLOYMENT, REVISION): 14}) == {"a": 3, "b": 4}
    assert wanted(both, {}) == {"a": 1, "b": 1}


def test_a_new_revision_is_made_big_enough_for_what_the_old_one_carries() -> None:
    """Load on an ended revision counts for its successor, another deployment's does not."""
    old = assignment("old", draining=True)
    new = assignment("new", revision_id="revision-2", revision=2, pool_id="reserved", max_replicas=8)
    loads = {(DEPLOYMENT, REVISION): 9, ("other", "revision-9"): 100}
    assert wanted([old, new], loads) == {"new": 5}


def test_two_live_revisions_scale_by_their_own_load() -> None:
    """A canary does not grow with the load of its elder."""
    elder = assignment("elder", pool_id="reserved", max_replicas=8)
    canary = assignment("canary", revision_id="revision-2", revision=2, pool_id="reserved", max_replicas=8)
    loads = {(DEPLOYMENT, REVISION): 12, (DEPLOYMENT, "revision-2"): 1}
    assert wanted([elder, canary], loads) == {"elder": 6, "canary": 1}


def run(
    scaling: Scaling, want: DesiredAssignment, in_flight: int, *, ready: int, start: int, end: int
) -> list[int]:
    """What is wanted, second by second, of a revision whose replicas are there as soon as they are wanted."""
    name, found = want.assignment_id, [ready]
    for now in range(start, end):
        scaling.observe([want], {KEY: load(in_flight)}, now=float(now))
        counts = scaling.wanted([want], POOLS, supply({name: found[-1]}), {}, now=float(now))
        found.append(counts[name])
    return found[1:]


def predictive(**changes: object) -> DesiredAssignment:
    return assignment("a", policy="predictive", min_replicas=0, max_replicas=9, **changes)


def test_the_default_policy_carries_the_load_and_lets_it_go_again() -> None:
    """With room above what is there; to zero once nothing is, and back with the first request."""
    want, scaling = predictive(), Scaling(None, now=0.0)
    assert run(scaling, want, 8, ready=4, start=0, end=60)[-1] in (4, 5, 6)
    assert run(scaling, want, 0, ready=4, start=60, end=600)[-1] == 0
    assert run(scaling, want, 1, ready=0, start=600, end=604)[-1] >= 1


def test_a_policy_that_is_not_known_is_predictive() -> None:
    """What a newer control plane says is no reason to stop scaling."""
    scaling = Scaling(None, now=0.0)
    run(scaling, assignment("a", policy="clairvoyant", max_replicas=4), 4, ready=2, start=0, end=3)
    assert scaling.decisions()[0].policy == "predictive"


def restarted(scaling: Scaling, *, saved: float, now: float) -> Scaling:
    """Another life of the agent, from what the first one wrote."""
    content = msgspec.json.encode(scaling.memory(now=saved))
    return Scaling(msgspec.json.decode(content, type=ScalingFile), now=now)


def test_after_a_restart_the_past_goes_on() -> None:
    """With the memory: what was wanted stays wanted, and is let go when it would have been. No panic either."""
    want, first = predictive(scale_down_delay_s=30.0), Scaling(None, now=0.0)
    before = run(first, want, 8, ready=4, start=0, end=120)[-1]
    again = restarted(first, saved=120.0, now=123.0)
    after = run(again, want, 8, ready=4, start=123, end=130)
    assert set(after) == {before}
    assert again.memory(now=130.0).revisions[0].state.begun_at == 0.0


def test_without_a_memory_nothing_is_scaled_down_at_once() -> None:
    """A lost file, or one from a clock that was set back: the replicas that are there stay for a window."""
    want, first = predictive(), Scaling(None, now=500.0)
    run(first, want, 8, ready=4, start=500, end=560)
    for scaling in (Scaling(None, now=0.0), restarted(first, saved=560.0, now=0.0)):
        assert run(scaling, want, 0, ready=4, start=0, end=3) == [4, 4, 4]


def test_an_absence_of_the_agent_is_no_idleness() -> None:
    """Whoever was there all the time may ask again at once: the last replica stays as long as if it were just used."""
    for policy in ("predictive", "kpa"):
        want = assignment("a", policy=policy, min_replicas=0, max_replicas=9, scale_down_delay_s=30.0)
        first = Scaling(None, now=0.0)
        run(first, want, 1, ready=1, start=0, end=120)
        run(first, want, 0, ready=1, start=120, end=121)
        again = restarted(first, saved=121.0, now=900.0)
        assert set(run(again, want, 0, ready=1, start=900, end=905)) == {1}
        assert run(again, want, 0, ready=1, start=905, end=1100)[-1] == 0


def test_load_that_nobody_can_tell_scales_nothing_down() -> None:
    """Without a gateway the last count stands, however long."""
    want, scaling = predictive(), Scaling(None, now=0.0)
    before = run(scaling, want, 8, ready=4, start=0, end=30)[-1]
    for now in range(30, 900, 5):
        scaling.observe([want], None, now=float(now))
        counts = scaling.wanted([want], POOLS, supply({"a": 4}), {}, now=float(now))
    assert counts["a"] == before


def test_each_change_is_told_once_with_its_reasons() -> None:
    """Until it is delivered; and that a revision is not to run here any more, too."""
    want, scaling = assignment("a", max_replicas=4), Scaling(None, now=0.0)
    run(scaling, want, 8, ready=1, start=0, end=20)
    told = scaling.decisions()
    assert [decision.replicas for decision in told] == [1, 4]
    assert "8.00 requests at hand" in told[1].reasons[0]
    assert (told[1].deployment_id, told[1].revision_id, told[1].ready, told[1].at_hand) == (*KEY, 1, 8.0)
    scaling.forget_decisions(told)
    run(scaling, want, 8, ready=4, start=20, end=30)
    assert scaling.decisions() == ()
    scaling.wanted([], POOLS, supply({}), {}, now=31.0)
    assert [decision.replicas for decision in scaling.decisions()] == [0]


def test_decisions_that_nobody_takes_are_bounded() -> None:
    """A control plane may be away for days."""
    scaling = Scaling(None, now=0.0)
    for now in range(2000):
        scaling.wanted([assignment("a")] if now % 2 else [], POOLS, supply({}), {}, now=float(now))
    seen: list[ScalingDecision] = []
    while batch := scaling.decisions():
        assert len(batch) <= 64
        seen += batch
        scaling.forget_decisions(batch)
    assert len(seen) == 512
    assert seen == sorted(seen, key=lambda decision: decision.decided_at)


def record(name: str, *, created_at: float, ready_at: float | None, seen: bool = True) -> ReplicaRecord:
    facts = facts_of(assignment("a"), replica_id=name, engine="simulator", now=created_at, restarts=0)
    return ReplicaRecord(
        facts=facts, state="ready" if ready_at else "starting", ready_at=ready_at, start_was_seen=seen
    )


def test_cold_starts_are_learned_once_each_and_remembered() -> None:
    """Not those whose start was not seen; nine in ten were not longer."""
    want, scaling = assignment("a"), Scaling(None, now=0.0)
    scaling.wanted([want], POOLS, supply({}), {}, now=0.0)
    records = [record(str(n), created_at=0.0, ready_at=float(n)) for n in range(1, 11)]
    found = [*records, record("found", created_at=0.0, ready_at=900.0, seen=False),
             record("starts", created_at=0.0, ready_at=None)]  # fmt: skip
    for _ in range(3):
        scaling.learn([want], found)
    assert scaling.cold_starts.p90_s(DEPLOYMENT) == 9.0
    again = restarted(scaling, saved=20.0, now=21.0)
    again.learn([want], found)
    assert len(again.memory(now=22.0).cold_starts[DEPLOYMENT]) == 10


def test_work_is_told_once_tokens_costs_are_known() -> None:
    """One replica's engine is in full use for 1,000 tokens in ten seconds: so is a request of 100 a replica-second.

    Ten such a second are ten replicas' worth, though only two requests are in flight: the rest waits elsewhere.
    """
    want, scaling = predictive(concurrency_target=2.0), Scaling(None, now=0.0)
    want = msgspec.structs.replace(
        want, autoscaling=msgspec.structs.replace(want.autoscaling, max_replicas=40)
    )
    engine, finished = record("r", created_at=0.0, ready_at=1.0), Finished()
    for now in range(300):
        engine.metrics = EngineMetrics(running=2, prompt_tokens_total=0, generation_tokens_total=100 * now)
        engine.metrics_since = float(now)
        if now > 150:
            finished.requests += 10
            finished.output_tokens += 1000
        scaling.learn([want], [engine])
        scaling.observe([want], {KEY: load(2)}, now=float(now))
        counts = scaling.wanted([want], POOLS, supply({"a": 1}), {KEY: finished}, now=float(now))
        if now == 150:
            assert counts["a"] <= 3  # two in flight are one replica's worth
    assert 6 <= counts["a"] <= 20  # how fast costs and levels are learned is the policy's own matter
    for now in range(300, 900):
        scaling.observe([want], {}, now=float(now))
        counts = scaling.wanted([want], POOLS, supply(counts), {KEY: finished}, now=float(now))
    assert counts["a"] == 0  # work that no longer comes is none: it does not fade for ever


def test_a_queue_that_fills_new_replicas_is_no_further_demand() -> None:
    """While requests wait every seat is taken, however many there are: work is what arrives, and what waits."""
    memory = WorkMemory(tokens=TokenWork(observations=100), request_s=1.0)
    meter, finished = WorkMeter(memory), Finished()

    def demand(now: int, *, in_flight: float, waiting: float) -> float:
        seen = meter.step(
            finished, in_flight=in_flight, waiting=waiting, concurrency_target=10.0, now=float(now)
        )
        return (seen.demand or 0.0) if seen is not None else 0.0

    for now in range(100):
        finished.requests += 2
        finished.output_tokens += 4000  # two replica-seconds at the costs that are taken at first
        demand(now, in_flight=20.0, waiting=50.0)
    assert demand(100, in_flight=80.0, waiting=0.0) < 4.0  # six more replicas, full at once of what waited
    assert demand(120, in_flight=80.0, waiting=0.0) == pytest.approx(8.0)  # long answers, and nothing waits


def test_missed_goals_make_more_head_room() -> None:
    """First tokens that come too late raise the count; without a goal the same ones don't."""

    def after(goal_s: float | None) -> float:
        want, scaling = predictive(slo_ttft_s_p95=goal_s), Scaling(None, now=0.0)
        finished = Finished()
        late = next(number for number, upper in enumerate(LATENCY_BUCKETS_S) if upper > 4.0)
        for now in range(400):
            finished.ttft_counts[late] += 20
            scaling.observe([want], {KEY: load(6 + 4 * (now // 7 % 2))}, now=float(now))
            scaling.wanted([want], POOLS, supply({"a": 5}), {KEY: finished}, now=float(now))
        return scaling.memory(now=400.0).revisions[0].state.predictive.feedback.correction

    assert after(600.0) <= after(None) < after(0.5)
