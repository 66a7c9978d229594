"""One pass: what is wanted and what is held go through the pure decisions, and the fleet is told what to do."""

import time
from collections import Counter
from collections.abc import Sequence

import structlog

from workloadplane.agent.conditions import conditions_of
from workloadplane.agent.fleet import Fleet
from workloadplane.agent.gateways import GatewayHub
from workloadplane.agent.reconcile import (
    Action,
    Drain,
    HeldReplica,
    Recall,
    Start,
    Stop,
    WantedAssignment,
    reconcile,
)
from workloadplane.agent.record import ReplicaRecord
from workloadplane.agent.scaling import Scaling
from workloadplane.agent.tables import DesiredState
from workloadplane.health.notices import Departure, departure_of
from workloadplane.protocol.desired import DesiredAssignment
from workloadplane.protocol.observed import ObservedCondition
from workloadplane.protocol.refusal import Refusal

_log = structlog.get_logger(__name__)


class Conductor:
    """Reconciles one cluster. Owned by the agent's event loop."""

    def __init__(self, fleet: Fleet, hub: GatewayHub) -> None:
        self._fleet = fleet
        self._hub = hub
        self._scaling = Scaling()
        self._counts: dict[str, int] = {}

    def observe_load(self, desired: DesiredState) -> bool:
        """Note what gateways have at hand; whether somebody waits for a replica."""
        loads = self._hub.loads()
        self._scaling.observe(desired.assignments, loads, now=time.monotonic())
        return loads is not None and any(load.waiting for load in loads.values())

    def run_pass(
        self, desired: DesiredState, departures: Sequence[Departure], *, may_start: Refusal | None
    ) -> tuple[ObservedCondition, ...]:
        """Start, drain, recall and stop what is due; what is now to be said of each assignment.

        departures: capacity that is taken back
        """
        now = time.monotonic()
        self._expect(desired, departures, now)
        self._fleet.retarget({a.assignment_id: a.autoscaling.concurrency_target for a in desired.assignments})
        held = [self._held(record) for record in self._fleet.records.values() if not record.ended]
        self.observe_load(desired)
        counts = self._scaling.wanted(
            desired.assignments,
            desired.header.pools,
            alive=Counter(r.assignment_id for r in held if r.state != "draining"),
            ready=Counter(r.assignment_id for r in held if r.state == "ready"),
            now=now,
        )
        self._tell_changes(desired, counts)
        plan = reconcile(
            [self._wanted(assignment, counts) for assignment in desired.assignments],
            held,
            {
                pool.pool_id: 0 if departure_of(departures, pool.name, ()) else pool.capacity_gpus
                for pool in desired.header.pools
            },
            now=now,
            may_start=may_start,
        )
        assignments = {assignment.assignment_id: assignment for assignment in desired.assignments}
        for action in plan.actions:
            self._act(action, assignments)
        observed = [record.observed() for record in self._fleet.records.values()]
        return conditions_of(desired.assignments, observed, counts, plan.shortfalls)

    def _expect(self, desired: DesiredState, departures: Sequence[Departure], now: float) -> None:
        names = {pool.pool_id: pool.name for pool in desired.header.pools}
        for record in self._fleet.records.values():
            if not record.ended:
                pool = names.get(record.facts.pool_id, "")
                self._fleet.expect_departure(record, departure_of(departures, pool, ()), now=now)

    def _act(self, action: Action, assignments: dict[str, DesiredAssignment]) -> None:
        match action:
            case Start(assignment_id):
                self._fleet.start(assignments[assignment_id])
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
                    reasons=self._scaling.reasons(assignment),
                )
        self._counts = counts
