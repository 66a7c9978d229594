"""What to start, drain and stop, given what is wanted and what is held. Pure.

The rules, in the order in which they win:

1. No pool goes past its capacity; a draining replica still holds its GPUs.
2. No assignment goes above ``max_replicas``; draining replicas count until they are gone. Scaling up recalls
   drains before it starts anything.
3. A replica that does not answer is drained (briefly) and replaced.
4. Minimums are booked, what lies above them shares the rest: below ``min_replicas`` an assignment starts
   first, the room it cannot use yet is kept for it, and others give up what they hold above their minimum.
   Where that is not enough it is a ``Degraded`` condition with its Refusal.
5. An assignment that ended (draining, or no longer there) keeps serving while another of the same deployment
   takes over here: as many of its replicas go as the successor has ready, and one more whenever the
   successor finds no room. With no successor all of them drain at once.
6. A start waits for its assignment's back-off; an agent that is superseded starts and recalls nothing.
7. A draining replica is stopped when no gateway uses it any more, or when its time is up.
8. Replicas whose capacity is taken back drain at once, are not recalled while that stands, and have ended before it
   is gone.
9. Replicas on a node that is being emptied serve on until as many are ready elsewhere in the pool. Where there is no
   room for those, others give up what they hold above their minimum; the rest is the control plane's to move.

What leaves by 8 or 9 counts neither against the room that is left nor against ``max_replicas``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import groupby

from workloadplane.agent.actions import (
    DRAIN_LIMIT_S,
    UNHEALTHY_DRAIN_LIMIT_S,
    Action,
    Drain,
    HeldReplica,
    Recall,
    ReconcilePlan,
    Shortfall,
    Start,
    Stop,
    WantedAssignment,
)
from workloadplane.health.replica import LIVING, ReplicaState
from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted

#: When capacity is short, these give up their place first, so that nobody waits for them.
_LEAST_USEFUL: Mapping[ReplicaState, int] = {"unhealthy": 0, "pending": 1, "starting": 2, "ready": 3}


@dataclass(slots=True)
class _Book:
    """Replicas and free GPUs while the plan is being made. ``cramped``: assignment id -> replicas of its minimum that
    found no room."""

    free_gpus: dict[str, int]
    living: dict[str, list[HeldReplica]]
    actions: list[Action] = field(default_factory=list)
    shortfalls: list[Shortfall] = field(default_factory=list)
    cramped: dict[str, int] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    drained: set[str] = field(default_factory=set)
    recalled: set[str] = field(default_factory=set)

    def serving(self, assignment_id: str) -> list[HeldReplica]:
        """Replicas that count as supply: alive and not on their way out."""
        return [
            replica
            for replica in self.living.get(assignment_id, ())
            if replica.replica_id not in self.drained
            and (replica.state != "draining" or replica.replica_id in self.recalled)
        ]

    def present(self, assignment_id: str) -> list[HeldReplica]:
        """Replicas of an assignment that have not ended, in capacity that stays."""
        return [replica for replica in self.living.get(assignment_id, ()) if not replica.leaves]

    def staying(self, assignment_id: str) -> list[HeldReplica]:
        """Of those that count as supply, the ones in capacity that stays."""
        return [replica for replica in self.serving(assignment_id) if not replica.leaves]

    def drain(self, replica: HeldReplica, reason: str, *, final: bool = False) -> None:
        limit_s = UNHEALTHY_DRAIN_LIMIT_S if replica.state == "unhealthy" else DRAIN_LIMIT_S
        self.drained.add(replica.replica_id)
        self.actions.append(Drain(replica.replica_id, reason, limit_s, final))


def reconcile(
    wanted: Sequence[WantedAssignment],
    held: Sequence[HeldReplica],
    capacity_gpus: Mapping[str, int],
    *,
    now: float,
    may_start: Refusal | None = None,
) -> ReconcilePlan:
    """The actions that bring ``held`` nearer to ``wanted``; none when they agree.

    ``may_start`` is the reason why nothing may be started at all, if there is one.
    """
    book = _open_book(held, capacity_gpus)
    _vacate(book, held, now=now)
    active = [assignment for assignment in wanted if not assignment.ended]
    for assignment in active:
        _settle_held(book, assignment, may_recall=may_start is None)
    _start_missing(book, active, now=now, refusal=may_start)
    _end_obsolete(book, active, held)
    _make_room(book, active, held, capacity_gpus)
    _stop_drained(book, held, now=now)
    return ReconcilePlan(actions=tuple(book.actions), shortfalls=tuple(book.shortfalls))


def _open_book(held: Sequence[HeldReplica], capacity_gpus: Mapping[str, int]) -> _Book:
    book = _Book(free_gpus=dict(capacity_gpus), living={})
    for replica in held:
        if replica.state in LIVING:
            book.living.setdefault(replica.assignment_id, []).append(replica)
            if not replica.leaves:
                book.free_gpus[replica.pool_id] = book.free_gpus.get(replica.pool_id, 0) - replica.gpus
    return book


def _vacate(book: _Book, held: Sequence[HeldReplica], *, now: float) -> None:
    """Let those whose capacity is taken back finish for as long as there is time."""
    for replica in held:
        if replica.leave_by is not None and replica.state in LIVING and replica.state != "draining":
            book.drained.add(replica.replica_id)
            limit_s = max(0.0, replica.leave_by - now)
            book.actions.append(Drain(replica.replica_id, "CapacityTakenBack", limit_s))


def _settle_held(book: _Book, assignment: WantedAssignment, *, may_recall: bool) -> None:
    """Drain what does not answer and what is too many; recall drains where too few are left."""
    for replica in book.serving(assignment.assignment_id):
        if replica.state == "unhealthy":
            book.drain(replica, "Unhealthy")
    goal = _goal(assignment)
    staying = sorted(book.staying(assignment.assignment_id), key=_usefulness)
    for replica in staying[: max(0, len(staying) - goal)]:
        book.drain(replica, "ScaledDown")
    serving = sorted(book.serving(assignment.assignment_id), key=_usefulness)
    leaving = [replica for replica in serving if replica.leaves]
    ready = sum(replica.state == "ready" and not replica.leaves for replica in serving)
    for replica in leaving[: max(0, len(leaving) - max(0, goal - ready))]:
        book.drain(replica, "NodeCordoned")
    if not may_recall:
        return
    recallable = [r for r in book.present(assignment.assignment_id) if r.recallable]
    for replica in recallable[: max(0, goal - len(serving))]:
        book.recalled.add(replica.replica_id)
        book.actions.append(Recall(replica.replica_id))


def _goal(assignment: WantedAssignment) -> int:
    return min(max(assignment.replicas, assignment.min_replicas), assignment.max_replicas)


def _usefulness(replica: HeldReplica) -> tuple[int, int, float]:
    """Drain first: not ready, then the fewest requests, then the youngest."""
    return _LEAST_USEFUL.get(replica.state, 3), replica.in_flight, -replica.created_at


def _start_missing(
    book: _Book, active: Sequence[WantedAssignment], *, now: float, refusal: Refusal | None
) -> None:
    """One start at a time to whoever is furthest below its minimum, then below its goal."""
    by_id = {assignment.assignment_id: assignment for assignment in active}
    claims = [_claim(book, assignment) for assignment in active]
    heapify(claims)
    while claims:
        assignment = by_id[heappop(claims)[-1]]
        if _supply(book, assignment) >= _goal(assignment):
            continue
        reason = refusal or _cannot_start(book, assignment, now=now)
        if reason is not None:
            _fall_short(book, assignment, reason)
            continue
        book.starts[assignment.assignment_id] = book.starts.get(assignment.assignment_id, 0) + 1
        book.free_gpus[assignment.pool_id] -= assignment.gpus_per_replica
        book.actions.append(Start(assignment.assignment_id))
        heappush(claims, _claim(book, assignment))


def _fall_short(book: _Book, assignment: WantedAssignment, reason: Refusal) -> None:
    """What serves on a node that is being emptied is no lack yet, but its successors have the same claim to room."""
    supply, served = _supply(book, assignment), _served(book, assignment)
    if served < _goal(assignment):
        book.shortfalls.append(Shortfall(assignment.assignment_id, _goal(assignment), served, reason))
    lacking = max(0, assignment.min_replicas - supply)
    if reason.rule == "pool_capacity":
        book.cramped[assignment.assignment_id] = lacking
    elif lacking:
        booked = lacking * assignment.gpus_per_replica
        book.free_gpus[assignment.pool_id] = book.free_gpus.get(assignment.pool_id, 0) - booked


def _supply(book: _Book, assignment: WantedAssignment) -> int:
    """Replicas that will go on counting, those that start now included."""
    return len(book.staying(assignment.assignment_id)) + book.starts.get(assignment.assignment_id, 0)


def _served(book: _Book, assignment: WantedAssignment) -> int:
    return len(book.serving(assignment.assignment_id)) + book.starts.get(assignment.assignment_id, 0)


def _claim(book: _Book, assignment: WantedAssignment) -> tuple[int, int, str]:
    supply = _served(book, assignment)
    below_minimum = 0 if supply < assignment.min_replicas else 1
    return below_minimum, supply - _goal(assignment), assignment.assignment_id


def _cannot_start(book: _Book, assignment: WantedAssignment, *, now: float) -> Refusal | None:
    alive = len(book.present(assignment.assignment_id)) + book.starts.get(assignment.assignment_id, 0)
    if alive >= assignment.max_replicas:
        return Refusal(
            rule="max_replicas",
            subject=f"assignment {assignment.assignment_id}",
            value=f"{alive} alive, of which some are draining",
            remedy="the next one starts when a draining replica has ended",
        )
    free = book.free_gpus.get(assignment.pool_id)
    if free is None or free < assignment.gpus_per_replica:
        return Refusal(
            rule="pool_capacity",
            subject=f"pool {assignment.pool_id}",
            value=f"{counted(max(0, free or 0), 'GPU')} free",
            remedy=f"a replica needs {assignment.gpus_per_replica}; enlarge the pool or move a deployment",
        )
    if now < assignment.start_not_before:
        return Refusal(
            rule="crash_back_off",
            subject=f"assignment {assignment.assignment_id}",
            value="its replicas ended while starting",
            remedy="it is tried again by itself, later each time; the replica's log says why it ends",
        )
    return None


def _end_obsolete(book: _Book, active: Sequence[WantedAssignment], held: Sequence[HeldReplica]) -> None:
    """Let go of replicas whose assignment ended, no faster than their successors become ready."""
    active_ids = {assignment.assignment_id for assignment in active}
    successors_of: dict[str, list[WantedAssignment]] = {}
    for assignment in active:
        successors_of.setdefault(assignment.deployment_id, []).append(assignment)
    obsolete = sorted(
        (
            replica
            for replica in held
            if replica.assignment_id not in active_ids
            and replica.state in LIVING
            and replica.leave_by is None
        ),
        key=lambda replica: replica.deployment_id,
    )
    for deployment_id, group in groupby(obsolete, key=lambda replica: replica.deployment_id):
        replicas = list(group)
        successors = successors_of.get(deployment_id, [])
        for replica in _may_go(book, replicas, successors):
            book.drain(replica, "Superseded" if successors else "Withdrawn")


def _may_go(
    book: _Book, obsolete: Sequence[HeldReplica], successors: Sequence[WantedAssignment]
) -> list[HeldReplica]:
    """Which of one deployment's obsolete replicas may be drained now, the least useful first."""
    serving = sorted((replica for replica in obsolete if replica.state != "draining"), key=_usefulness)
    missing = sum(max(0, _goal(assignment) - _ready(book, assignment)) for assignment in successors)
    if missing == 0:
        return serving
    useless = sum(replica.state != "ready" for replica in serving)
    going = serving[: max(useless, len(serving) - missing)]
    leaving = {replica.pool_id for replica in obsolete if replica.state == "draining"}
    leaving.update(replica.pool_id for replica in going)
    cramped = {a.pool_id for a in successors if a.assignment_id in book.cramped} - leaving
    for pool_id in sorted(cramped):
        going.extend([replica for replica in serving if replica.pool_id == pool_id][:1])
    return going


def _make_room(
    book: _Book,
    active: Sequence[WantedAssignment],
    held: Sequence[HeldReplica],
    capacity_gpus: Mapping[str, int],
) -> None:
    """Where an assignment found no room for its minimum, those above theirs give way, no more than needed.

    Only in a pool that has room for all its minimums: else giving way would help nobody.
    """
    needed = _missing_gpus_by_pool(book, active)
    booked: dict[str, int] = {}
    for a in active:
        booked[a.pool_id] = booked.get(a.pool_id, 0) + a.min_replicas * a.gpus_per_replica
    needed = {pool: gpus for pool, gpus in needed.items() if booked[pool] <= capacity_gpus.get(pool, 0)}
    for replica in held:
        leaves = replica.state == "draining" or replica.replica_id in book.drained
        if leaves and replica.replica_id not in book.recalled and replica.pool_id in needed:
            needed[replica.pool_id] -= replica.gpus
    for pool_id, gpus in needed.items():
        spare = [replica for a in active if a.pool_id == pool_id for replica in _above_minimum(book, a)]
        missing_gpus = gpus - max(0, book.free_gpus.get(pool_id, 0))
        for replica in sorted(spare, key=_usefulness):
            if missing_gpus <= 0:
                break
            book.drain(replica, "MadeRoom", final=True)
            missing_gpus -= replica.gpus


def _missing_gpus_by_pool(book: _Book, active: Sequence[WantedAssignment]) -> dict[str, int]:
    """GPUs that assignments below their minimum found no room for."""
    missing: dict[str, int] = {}
    for assignment in active:
        replicas = book.cramped.get(assignment.assignment_id, 0)
        if replicas > 0:
            gpus = missing.get(assignment.pool_id, 0) + replicas * assignment.gpus_per_replica
            missing[assignment.pool_id] = gpus
    return missing


def _above_minimum(book: _Book, assignment: WantedAssignment) -> list[HeldReplica]:
    serving = [r for r in book.staying(assignment.assignment_id) if r.replica_id not in book.recalled]
    surplus = _supply(book, assignment) - assignment.min_replicas
    return sorted(serving, key=_usefulness)[: max(0, surplus)]


def _ready(book: _Book, assignment: WantedAssignment) -> int:
    return sum(replica.state == "ready" for replica in book.serving(assignment.assignment_id))


def _stop_drained(book: _Book, held: Sequence[HeldReplica], *, now: float) -> None:
    for replica in held:
        if replica.state != "draining" or replica.stop_ordered or replica.replica_id in book.recalled:
            continue
        overdue = replica.drain_since is not None and now - replica.drain_since >= replica.drain_limit_s
        overdue |= replica.leave_by is not None and now >= replica.leave_by
        if replica.clear or overdue:
            book.actions.append(Stop(replica.replica_id, overdue=not replica.clear))
