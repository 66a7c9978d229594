"""One pass: what is wanted and what is held go through the pure decisions, and the fleet is told what to do."""

import time
from collections import Counter
from collections.abc import Sequence

import structlog

from workloadplane.agent.actions import Action, Drain, HeldReplica, Recall, Start, Stop, WantedAssignment
from workloadplane.agent.conditions import conditions_of
from workloadplane.agent.disk import ScalingFile
from workloadplane.agent.fleet import Fleet
from workloadplane.agent.gateways import GatewayHub
from workloadplane.agent.nodes import Node, NodeShares, closed_nodes, nodes_of, open_gpus, place
from workloadplane.agent.reconcile import reconcile
from workloadplane.agent.record import ReplicaRecord
from workloadplane.agent.scaling import Scaling, Supply
from workloadplane.agent.tables import DesiredState
from workloadplane.health.notices import Departure, departure_of
from workloadplane.protocol.desired import DesiredAssignment
from workloadplane.protocol.observed import Notice, ObservedCondition, ObservedNode
from workloadplane.protocol.refusal import Refusal

_log = structlog.get_logger(__name__)

#: More machines than these are not told of: those that hold something, or are closed, come first.
_NODES_TOLD_MAX = 256


class Conductor:
    """Reconciles one cluster. Owned by the agent's event loop."""

    def __init__(self, fleet: Fleet, hub: GatewayHub, remembered: ScalingFile | None) -> None:
        """``remembered``: what scaling went by in a former life of this agent."""
        self._fleet = fleet
        self._hub = hub
        self._since_1970_s = time.time() - time.monotonic()
        self.scaling = Scaling(remembered, now=self._now())
        self._counts: dict[str, int] = {}
        self._nodes: tuple[Node, ...] = ()
        self._closed: frozenset[str] = frozenset()
        self._unknown: set[Notice] = set()

    def observe_load(self, desired: DesiredState) -> bool:
        """Note what gateways have at hand; whether somebody waits for a replica."""
        loads = self._hub.loads()
        self.scaling.observe(desired.assignments, loads, now=self._now())
        return loads is not None and any(load.waiting for load in loads.values())

    def run_pass(
        self, desired: DesiredState, departures: Sequence[Departure], *, may_start: Refusal | None
    ) -> tuple[ObservedCondition, ...]:
        """Start, drain, recall and stop what is due; what is now to be said of each assignment.

        departures: capacity that is taken back
        """
        now = time.monotonic()
        header = desired.header
        self._nodes = nodes_of(header.pools)
        self._closed = closed_nodes(self._nodes, header.pools, header.cordoned, departures)
        self._expect(desired, departures, now)
        self._fleet.retarget({a.assignment_id: a.autoscaling.concurrency_target for a in desired.assignments})
        held = [self._held(record) for record in self._fleet.records.values() if not record.ended]
        self.observe_load(desired)
        self.scaling.learn(desired.assignments, self._fleet.records.values())
        self._hub.forget_finished({(a.deployment_id, a.revision_id) for a in desired.assignments})
        counts = self.scaling.wanted(
            desired.assignments, desired.header.pools, _supply(held), self._hub.finished, now=self._now()
        )
        self._tell_changes(desired, counts)
        plan = reconcile(
            [self._wanted(assignment, counts) for assignment in desired.assignments],
            held,
            open_gpus(header.pools, self._nodes, self._closed),
            now=now,
            may_start=may_start,
        )
        assignments = {assignment.assignment_id: assignment for assignment in desired.assignments}
        for action in plan.actions:
            self._act(action, assignments)
        observed = [record.observed() for record in self._fleet.records.values()]
        return conditions_of(desired.assignments, observed, counts, plan.shortfalls)

    def scaling_memory(self) -> ScalingFile:
        """What to keep, for another life of this agent."""
        return self.scaling.memory(now=self._now())

    def _now(self) -> float:
        """Seconds since 1970 as they were when this began, going on steadily: what is kept must mean the same later."""
        return self._since_1970_s + time.monotonic()

    def _expect(self, desired: DesiredState, departures: Sequence[Departure], now: float) -> None:
        """Note which replicas are on capacity that is to be empty, and by when."""
        pools = {pool.pool_id: pool.name for pool in desired.header.pools}
        for record in self._fleet.records.values():
            if not record.ended:
                pool, on = pools.get(record.facts.pool_id, ""), record.facts.node_names
                record.cordoned = any(name in desired.header.cordoned for name in on)
                self._fleet.expect_departure(record, departure_of(departures, pool, on), now=now)
        places: set[tuple[str, str | None]] = {(pool, None) for pool in pools.values()}
        places |= {(pools[node.pool_id], node.name) for node in self._nodes}
        for departure in departures:
            notice = departure.notice
            if (notice.pool, notice.node) not in places and notice not in self._unknown:
                self._unknown.add(notice)
                _log.warning("a notice names what is not here", pool=notice.pool, node=notice.node)

    def nodes(self) -> tuple[ObservedNode, ...]:
        """The machines as of the last pass, with what is on them now."""
        on: dict[str, list[str]] = {}
        for record in self._fleet.records.values():
            if not record.ended:
                for name in record.facts.node_names:
                    on.setdefault(name, []).append(record.replica_id)
        told = sorted(self._nodes, key=lambda node: node.name not in on and node.name not in self._closed)
        return tuple(
            ObservedNode(
                name=node.name,
                pool_id=node.pool_id,
                gpus=node.gpus,
                cordoned=node.name in self._closed,
                replicas=tuple(sorted(on.get(node.name, ()))),
            )
            for node in told[:_NODES_TOLD_MAX]
        )

    def _place(self, assignment: DesiredAssignment) -> NodeShares:
        held = (r.facts.nodes for r in self._fleet.records.values() if not r.ended)
        nodes = (node for node in self._nodes if node.pool_id == assignment.pool_id)
        return place(nodes, held, self._closed, assignment.gpus_per_replica)

    def _act(self, action: Action, assignments: dict[str, DesiredAssignment]) -> None:
        match action:
            case Start(assignment_id):
                assignment = assignments[assignment_id]
                self._fleet.start(assignment, self._place(assignment))
            case Drain(replica_id, reason, limit_s, final):
                self._fleet.drain(replica_id, reason=reason, limit_s=limit_s, final=final)
            case Recall(replica_id):
                self._fleet.recall(replica_id)
            case Stop(replica_id, overdue):
                self._fleet.stop(replica_id, overdue=overdue)

    def _held(self, record: ReplicaRecord) -> HeldReplica:
        since = record.drain_generation
        clear = since is not None and self._hub.is_clear(record.replica_id, since_generation=since)
        return record.held(in_flight=self._hub.in_flight(record.replica_id), clear=clear)

    def _wanted(self, assignment: DesiredAssignment, counts: dict[str, int]) -> WantedAssignment:
        bounds = assignment.autoscaling
        return WantedAssignment(
            assignment_id=assignment.assignment_id,
            deployment_id=assignment.deployment_id,
            revision=assignment.revision,
            pool_id=assignment.pool_id,
            gpus_per_replica=assignment.gpus_per_replica,
            min_replicas=bounds.min_replicas,
            max_replicas=bounds.max_replicas,
            replicas=counts.get(assignment.assignment_id, 0),
            ended=assignment.draining,
            start_not_before=self._fleet.start_not_before(assignment.assignment_id),
        )

    def _tell_changes(self, desired: DesiredState, counts: dict[str, int]) -> None:
        for assignment in desired.assignments:
            before = self._counts.get(assignment.assignment_id)
            after = counts.get(assignment.assignment_id)
            if after is not None and after != before:
                _log.info(
                    "replicas wanted",
                    deployment=assignment.deployment,
                    revision=assignment.revision,
                    pool_id=assignment.pool_id,
                    before=before,
                    after=after,
                    reasons=self.scaling.reasons(assignment),
                )
        self._counts = counts


def _supply(held: Sequence[HeldReplica]) -> Supply:
    return Supply(
        alive=Counter(r.assignment_id for r in held if r.state != "draining"),
        ready=Counter(r.assignment_id for r in held if r.state == "ready"),
        starting=Counter(r.assignment_id for r in held if r.state in ("pending", "starting")),
    )
