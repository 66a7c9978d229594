"""What reconciling is told and what it answers: assignments wanted, replicas held, and the actions between them."""

from dataclasses import dataclass

from workloadplane.health.replica import ReplicaState
from workloadplane.protocol.refusal import Refusal

#: How long a draining replica may finish what it runs, and one that does not answer.
DRAIN_LIMIT_S = 600.0
UNHEALTHY_DRAIN_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedAssignment:
    """An assignment of the DesiredState with the count that autoscaling wants; an ended one wants none."""

    assignment_id: str
    deployment_id: str
    revision: int
    pool_id: str
    gpus_per_replica: int
    min_replicas: int
    max_replicas: int
    replicas: int
    ended: bool = False
    start_not_before: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldReplica:
    """A replica that this agent holds.

    clear:         no gateway knows it as usable any more and none has a request on it
    drain_since:   when its drain began, if it is draining; with ``drain_limit_s``
    stop_ordered:  it has been told to stop
    leave_by:      its capacity is taken back: until then its process must have ended
    cordoned:      a node that it is on is being emptied
    recallable:    it drains, was ready when that began, its place is not promised to another, and it has
                   not been told to stop
    """

    replica_id: str
    assignment_id: str
    deployment_id: str
    pool_id: str
    gpus: int
    state: ReplicaState
    created_at: float
    in_flight: int = 0
    clear: bool = False
    drain_since: float | None = None
    drain_limit_s: float = DRAIN_LIMIT_S
    stop_ordered: bool = False
    leave_by: float | None = None
    cordoned: bool = False
    recallable: bool = False

    @property
    def leaves(self) -> bool:
        """Whether it is on capacity that is closed."""
        return self.cordoned or self.leave_by is not None


@dataclass(frozen=True, slots=True)
class Start:
    """Start one replica of an assignment."""

    assignment_id: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Take a replica from the gateways and let it finish. ``final``: its place is promised to another."""

    replica_id: str
    reason: str
    limit_s: float
    final: bool = False


@dataclass(frozen=True, slots=True)
class Recall:
    """Call a drain off: the replica serves again."""

    replica_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End a replica's process. ``overdue``: it still had requests when its time was up."""

    replica_id: str
    overdue: bool


Action = Start | Drain | Recall | Stop


@dataclass(frozen=True, slots=True)
class Shortfall:
    """An assignment that gets fewer replicas than it wants, and why."""

    assignment_id: str
    wanted: int
    held: int
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilePlan:
    """Actions in the order to take them, and what was not possible."""

    actions: tuple[Action, ...]
    shortfalls: tuple[Shortfall, ...]
