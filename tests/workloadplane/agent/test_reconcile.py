"""What to start, drain and stop: rules as properties, and the cases an operator would ask about."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from workloadplane.agent.actions import (
    DRAIN_LIMIT_S,
    Action,
    Drain,
    HeldReplica,
    Recall,
    ReconcilePlan,
    Start,
    Stop,
    WantedAssignment,
)
from workloadplane.agent.reconcile import reconcile
from workloadplane.health.replica import LIVING, REPLICA_STATES
from workloadplane.protocol.refusal import Refusal

POOLS = ("pool-a", "pool-b")
ASSIGNMENTS = ("one", "two", "three")


def wanted(name: str = "one", **changes: Any) -> WantedAssignment:
    base = WantedAssignment(
        assignment_id=name,
        deployment_id="chat",
        revision=1,
        pool_id="pool-a",
        gpus_per_replica=1,
        min_replicas=1,
        max_replicas=4,
        replicas=1,
    )
    return replace(base, **changes)


def held(name: str, assignment: str = "one", **changes: Any) -> HeldReplica:
    base = HeldReplica(
        replica_id=name,
        assignment_id=assignment,
        deployment_id="chat",
        pool_id="pool-a",
        gpus=1,
        state="ready",
        created_at=0.0,
    )
    return replace(base, **changes)


def actions(
    assignments: Sequence[WantedAssignment],
    replicas: Sequence[HeldReplica],
    *,
    capacity: int = 8,
    now: float = 0.0,
    may_start: Refusal | None = None,
) -> tuple[Action, ...]:
    return plan(assignments, replicas, capacity=capacity, now=now, may_start=may_start).actions


def plan(
    assignments: Sequence[WantedAssignment],
    replicas: Sequence[HeldReplica],
    *,
    capacity: int = 8,
    now: float = 0.0,
    may_start: Refusal | None = None,
) -> ReconcilePlan:
    return reconcile(
        assignments, replicas, {"pool-a": capacity, "pool-b": capacity}, now=now, may_start=may_start
    )


assignment_lists = st.lists(
    st.builds(
        lambda name, pool, gpus, least, extra, count, ended, later: wanted(
            name,
            deployment_id=f"deployment-{name}",
            pool_id=pool,
            gpus_per_replica=gpus,
            min_replicas=0 if ended else least,
            max_replicas=0 if ended else least + extra,
            replicas=count,
            ended=ended,
            start_not_before=later,
        ),
        st.sampled_from(ASSIGNMENTS),
        st.sampled_from(POOLS),
        st.integers(1, 8),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 12),
        st.booleans(),
        st.sampled_from([0.0, 50.0, 150.0]),
    ),
    max_size=3,
    unique_by=lambda assignment: assignment.assignment_id,
)
replica_lists = st.lists(
    st.builds(
        lambda name, assignment, pool, gpus, state, clear, since, ordered, cordoned, leave_by: held(
            f"replica-{name}",
            assignment,
            deployment_id=f"deployment-{assignment}",
            pool_id=pool,
            gpus=gpus,
            state=state,
            clear=clear,
            drain_since=since if state == "draining" else None,
            stop_ordered=ordered and state == "draining",
            recallable=not ordered and state == "draining",
            cordoned=cordoned,
            leave_by=leave_by,
        ),
        st.integers(0, 30),
        st.sampled_from((*ASSIGNMENTS, "forgotten")),
        st.sampled_from(POOLS),
        st.integers(1, 8),
        st.sampled_from(REPLICA_STATES),
        st.booleans(),
        st.floats(0, 100),
        st.booleans(),
        st.sampled_from([False, False, True]),
        st.sampled_from([None, None, 90.0, 120.0]),
    ),
    max_size=12,
    unique_by=lambda replica: replica.replica_id,
)


@settings(max_examples=examples(400), deadline=None)
@given(assignments=assignment_lists, replicas=replica_lists, capacity=st.integers(0, 40))
def test_bounds_and_capacity_hold_whatever_is_held(
    assignments: list[WantedAssignment], replicas: list[HeldReplica], capacity: int
) -> None:
    """Starts go past no maximum and no pool; short of the minimum only with a reason; all actions make sense.

    What is on closed capacity counts against neither, is not recalled, and goes at once where it is taken back.
    """
    result = plan(assignments, replicas, capacity=capacity, now=100.0)
    by_id = {replica.replica_id: replica for replica in replicas}
    starts = Counter(action.assignment_id for action in result.actions if isinstance(action, Start))
    draining = {action.replica_id for action in result.actions if isinstance(action, Drain)}
    recalled = {action.replica_id for action in result.actions if isinstance(action, Recall)}
    stopped = {action.replica_id for action in result.actions if isinstance(action, Stop)}
    short = {shortfall.assignment_id for shortfall in result.shortfalls}
    used = Counter(dict.fromkeys(POOLS, 0))
    for replica in replicas:
        if replica.state in LIVING and not replica.leaves:
            used[replica.pool_id] += replica.gpus

    for assignment in assignments:
        own = [r for r in replicas if r.assignment_id == assignment.assignment_id and r.state in LIVING]
        begun = starts[assignment.assignment_id]
        used[assignment.pool_id] += begun * assignment.gpus_per_replica
        if begun:
            assert sum(not r.leaves for r in own) + begun <= assignment.max_replicas
            assert used[assignment.pool_id] <= capacity
            assert assignment.start_not_before <= 100.0
            assert not assignment.ended
        serving = [
            r
            for r in own
            if r.replica_id not in draining and (r.state != "draining" or r.replica_id in recalled)
        ]
        if not assignment.ended:
            assert begun + sum(not r.leaves for r in serving) <= assignment.max_replicas
            assert begun + len(serving) >= assignment.min_replicas or assignment.assignment_id in short
        assert not [r for r in serving if r.leave_by is not None]
    assert all(by_id[name].state in LIVING - {"draining"} for name in draining)
    assert all(by_id[name].recallable and not by_id[name].leaves for name in recalled)
    assert all(by_id[name].state == "draining" and not by_id[name].stop_ordered for name in stopped)
    assert not recalled & stopped


@settings(deadline=None)
@given(assignments=assignment_lists, replicas=replica_lists)
def test_a_superseded_agent_starts_nothing(
    assignments: list[WantedAssignment], replicas: list[HeldReplica]
) -> None:
    """Whatever is missing."""
    refusal = Refusal(rule="superseded", subject="cluster_epoch", value="1", remedy="another holds it")
    result = plan(assignments, replicas, may_start=refusal)
    assert not [action for action in result.actions if isinstance(action, Start | Recall)]
    assert all(shortfall.refusal.rule == "superseded" for shortfall in result.shortfalls)


@settings(deadline=None)
@given(assignments=assignment_lists)
def test_it_comes_to_rest(assignments: list[WantedAssignment]) -> None:
    """Its actions carried out, the next pass has nothing to do."""
    replicas: list[HeldReplica] = []
    by_id = {assignment.assignment_id: assignment for assignment in assignments}
    for action in actions(assignments, [], capacity=12, now=100.0):
        assert isinstance(action, Start)
        assignment = by_id[action.assignment_id]
        replicas.append(
            held(
                f"replica-{len(replicas)}",
                assignment.assignment_id,
                deployment_id=assignment.deployment_id,
                pool_id=assignment.pool_id,
                gpus=assignment.gpus_per_replica,
            )
        )
    assert actions(assignments, replicas, capacity=12, now=100.0) == ()


def test_scarce_room_is_shared_by_need() -> None:
    """Minimums come first, and nobody takes all of what is left."""
    greedy = wanted("one", deployment_id="a", replicas=4, min_replicas=0)
    modest = wanted("two", deployment_id="b", replicas=2, min_replicas=2)
    begun = Counter(
        a.assignment_id for a in actions([greedy, modest], [], capacity=4) if isinstance(a, Start)
    )
    assert begun == {"one": 2, "two": 2}


def test_a_minimum_displaces_what_others_hold_above_theirs() -> None:
    """Just as much as is needed, and it is not taken back."""
    burst = wanted("one", deployment_id="a", replicas=4, min_replicas=1)
    newcomer = wanted("two", deployment_id="b", replicas=2, min_replicas=2)
    replicas = [held(f"burst-{n}", deployment_id="a", created_at=n, in_flight=1) for n in range(3)]
    drained = [a for a in actions([burst, newcomer], replicas, capacity=4) if isinstance(a, Drain)]
    assert [(a.replica_id, a.final) for a in drained] == [("burst-2", True)]

    replicas[2] = replace(replicas[2], state="draining", drain_since=0.0)
    replicas.append(held("new", "two", deployment_id="b"))
    assert actions([burst, newcomer], replicas, capacity=4) == ()


def test_room_is_kept_for_a_minimum_in_back_off() -> None:
    """A burst does not take the place of a replica that will be tried again."""
    burst = wanted("one", deployment_id="a", replicas=4, min_replicas=0)
    crashing = wanted("two", deployment_id="b", min_replicas=1, start_not_before=100.0)
    assert actions([burst, crashing], [], capacity=3) == (Start("one"), Start("one"))


@settings(deadline=None)
@given(
    minimums=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    bursts=st.lists(st.integers(0, 4), min_size=3, max_size=3),
    started=st.lists(st.integers(0, 4), min_size=3, max_size=3),
)
def test_every_booked_minimum_is_reached(minimums: list[int], bursts: list[int], started: list[int]) -> None:
    """Whoever came first: when the minimums fit, each is served after its neighbours' drains have ended."""
    assignments = [
        wanted(
            ASSIGNMENTS[n],
            deployment_id=f"deployment-{n}",
            min_replicas=least,
            max_replicas=least + bursts[n],
            replicas=least + bursts[n],
        )
        for n, least in enumerate(minimums)
    ]
    capacity = max(sum(minimums), 1)
    replicas: list[HeldReplica] = []
    for n, assignment in enumerate(assignments):
        for index in range(min(started[n], assignment.max_replicas, capacity - len(replicas))):
            name = f"{assignment.assignment_id}-{index}"
            replicas.append(held(name, assignment.assignment_id, deployment_id=assignment.deployment_id))
    for turn in range(12):
        for action in actions(assignments, replicas, capacity=capacity):
            if isinstance(action, Start):
                owner = next(a for a in assignments if a.assignment_id == action.assignment_id)
                name = f"{owner.assignment_id}-turn-{turn}-{len(replicas)}"
                replicas.append(held(name, owner.assignment_id, deployment_id=owner.deployment_id))
            elif isinstance(action, Drain):
                replicas = [r for r in replicas if r.replica_id != action.replica_id]
        assert len(replicas) <= capacity
    counts = Counter(replica.assignment_id for replica in replicas)
    assert all(counts[a.assignment_id] >= a.min_replicas for a in assignments)


def test_scale_down_takes_the_least_useful() -> None:
    """Starting before ready, idle before busy, young before old."""
    replicas = [
        held("old", created_at=1.0),
        held("young", created_at=2.0),
        held("busy", created_at=3.0, in_flight=2),
        held("starting", state="starting", created_at=0.0),
    ]
    for count, names in [(3, {"starting"}), (2, {"starting", "young"}), (1, {"starting", "young", "old"})]:
        drained = {a.replica_id for a in actions([wanted(replicas=count)], replicas) if isinstance(a, Drain)}
        assert drained == names


def test_scaling_up_recalls_a_drain_before_it_starts() -> None:
    """The replica that is still there serves at once."""
    replicas = [held("a"), held("b", state="draining", recallable=True, drain_since=0.0, clear=True)]
    assert actions([wanted(replicas=2)], replicas) == (Recall("b"),)


def test_an_unanswering_replica_is_replaced_within_the_maximum() -> None:
    """With room it is replaced at once; at the maximum the new one waits for the old one's end."""
    sick = held("sick", state="unhealthy")
    assert [type(action) for action in actions([wanted(max_replicas=2)], [sick])] == [Drain, Start]
    result = plan([wanted(max_replicas=1)], [sick])
    assert [type(action) for action in result.actions] == [Drain]
    assert result.shortfalls[0].refusal.rule == "max_replicas"


def test_an_ended_assignment_without_successor_drains_at_once() -> None:
    """A deleted deployment, also one that is no longer named at all."""
    replicas = [held("a"), held("b", "forgotten", deployment_id="gone")]
    drained = actions([wanted(ended=True, min_replicas=0, max_replicas=0)], replicas)
    assert {action.replica_id for action in drained if isinstance(action, Drain)} == {"a", "b"}


def test_a_new_revision_is_ready_before_the_old_one_goes() -> None:
    """Make before break, one for one."""
    old = wanted("one", ended=True, min_replicas=0, max_replicas=0)
    new = wanted("two", revision=2, replicas=2)
    replicas = [held("old-1"), held("old-2")]
    assert actions([old, new], replicas) == (Start("two"), Start("two"))

    replicas += [held("new-1", "two", state="ready"), held("new-2", "two", state="starting")]
    assert [a.replica_id for a in actions([old, new], replicas) if isinstance(a, Drain)] == ["old-1"]

    replicas[3] = held("new-2", "two", state="ready")
    assert len([a for a in actions([old, new], replicas) if isinstance(a, Drain)]) == 2


def test_without_room_for_both_revisions_the_old_gives_way_one_at_a_time() -> None:
    """A full pool: one old replica drains, and no second one while the first still does."""
    old = wanted("one", ended=True, min_replicas=0, max_replicas=0)
    new = wanted("two", revision=2, replicas=2)
    replicas = [held("old-1"), held("old-2")]
    assert len([a for a in actions([old, new], replicas, capacity=2) if isinstance(a, Drain)]) == 1

    replicas[0] = held("old-1", state="draining", drain_since=0.0)
    assert actions([old, new], replicas, capacity=2) == ()


def test_a_drain_ends_when_clear_or_when_its_time_is_up() -> None:
    """Not before either."""
    replica = held("a", state="draining", drain_since=0.0)
    nothing = [wanted(replicas=0, min_replicas=0)]
    assert actions(nothing, [replica], now=DRAIN_LIMIT_S - 1) == ()
    assert actions(nothing, [replica], now=DRAIN_LIMIT_S) == (Stop("a", overdue=True),)
    assert actions(nothing, [replace(replica, clear=True)], now=1.0) == (Stop("a", overdue=False),)
    assert actions(nothing, [replace(replica, clear=True, stop_ordered=True)], now=1.0) == ()


def test_what_its_provider_takes_back_drains_at_once_and_is_not_recalled() -> None:
    """Its limit is what is left; a draining one is not called back for a minimum, nor counted against the maximum."""
    one = wanted(min_replicas=2, max_replicas=2, replicas=2)
    leaving = held("leaving", leave_by=30.0)
    stays = held("stays", pool_id="pool-b")
    assert actions([one], [leaving, stays], now=10.0) == (
        Drain("leaving", "CapacityTakenBack", 20.0),
        Start("one"),
    )
    drains = replace(leaving, state="draining", drain_since=0.0, recallable=True)
    assert actions([one], [drains, stays], now=10.0) == (Start("one"),)
    assert actions([one], [drains, stays], capacity=0, now=10.0) == ()
    assert actions([one], [replace(drains, leave_by=None), stays], capacity=0, now=10.0) == (
        Recall("leaving"),
    )


def test_what_is_taken_back_has_ended_before_it_is_gone() -> None:
    """Whatever its drain was promised before, and with requests in flight."""
    drains = held("leaving", state="draining", drain_since=0.0, drain_limit_s=600.0, leave_by=30.0)
    assert actions([wanted(ended=True)], [drains], now=29.9) == ()
    assert actions([wanted(ended=True)], [drains], now=30.0) == (Stop("leaving", overdue=True),)


def test_what_is_on_a_node_that_is_emptied_serves_until_its_successor_is_ready() -> None:
    """One starts beside it though that is above the maximum; then it goes. Without room it stays, and is no lack."""
    one = wanted(min_replicas=2, max_replicas=2, replicas=2)
    leaving, stays = held("leaving", cordoned=True), held("stays")
    assert actions([one], [leaving, stays], capacity=2) == (Start("one"),)
    starting = held("new", state="starting")
    assert actions([one], [leaving, stays, starting], capacity=2) == ()
    assert actions([one], [leaving, stays, replace(starting, state="ready")], capacity=2) == (
        Drain("leaving", "NodeCordoned", DRAIN_LIMIT_S),
    )
    full = plan([one], [leaving, stays], capacity=1)
    assert (full.actions, full.shortfalls) == ((), ())
    fewer = wanted(min_replicas=1, max_replicas=1, replicas=1)
    assert actions([fewer], [leaving, stays], capacity=1) == (
        Drain("leaving", "NodeCordoned", DRAIN_LIMIT_S),
    )


def test_for_an_emptied_node_others_give_up_what_is_above_their_minimum() -> None:
    """As for any minimum; and it is not recalled while its node is being emptied."""
    one = wanted(min_replicas=1, max_replicas=1)
    other = wanted("two", min_replicas=1, max_replicas=2, replicas=2, deployment_id="other")
    leaving = held("leaving", cordoned=True)
    theirs = [held(name, "two", deployment_id="other") for name in ("a", "b")]
    assert actions([one, other], [leaving, *theirs], capacity=2) == (
        Drain("a", "MadeRoom", DRAIN_LIMIT_S, final=True),
    )
    drains = replace(leaving, state="draining", drain_since=0.0, recallable=True)
    assert Recall("leaving") not in actions([one], [drains], capacity=0)
    assert actions([one], [replace(drains, cordoned=False)], capacity=1) == (Recall("leaving"),)
