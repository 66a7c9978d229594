"""One replica as the agent holds it, and its faces: to the gateways, to the control plane, to the decisions."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from workloadplane.agent.actions import DRAIN_LIMIT_S, HeldReplica
from workloadplane.agent.nodes import NodeShares, read, written
from workloadplane.engines.base import EngineMetrics
from workloadplane.engines.kv_events import KvCounts
from workloadplane.health.probes import ProbeResult
from workloadplane.health.replica import ENDED, ReplicaState
from workloadplane.protocol.desired import DesiredAssignment
from workloadplane.protocol.engine_arguments import adapter_slots, sequences_max
from workloadplane.protocol.local import Endpoint, EngineLoad
from workloadplane.protocol.observed import ColdStart, ObservedReplica, ReplicaLoad
from workloadplane.runtimes.base import RunningReplica


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What does not change in a replica's life. The runtime keeps it as labels, for adopted ones."""

    replica_id: str
    assignment_id: str
    deployment_id: str
    revision_id: str
    revision: int
    pool_id: str
    gpus: int
    engine: str
    served_model: str
    concurrency_target: float
    max_in_flight: int
    max_context_tokens: int
    adapters: tuple[str, ...]
    adapter_slots: int
    created_at: float
    restarts: int
    nodes: NodeShares = ()

    @property
    def node_names(self) -> tuple[str, ...]:
        """The machines that it is on; none where that is not known."""
        return tuple(name for name, _ in self.nodes)

    def labels(self) -> dict[str, str]:
        return {
            "assignment_id": self.assignment_id,
            "deployment_id": self.deployment_id,
            "revision_id": self.revision_id,
            "revision": str(self.revision),
            "pool_id": self.pool_id,
            "gpus": str(self.gpus),
            "concurrency_target": repr(self.concurrency_target),
            "max_in_flight": str(self.max_in_flight),
            "max_context_tokens": str(self.max_context_tokens),
            "adapters": ",".join(self.adapters),
            "adapter_slots": str(self.adapter_slots),
            "created_at": repr(self.created_at),
            "restarts": str(self.restarts),
            "nodes": written(self.nodes),
        }


def facts_of(
    assignment: DesiredAssignment,
    *,
    replica_id: str,
    engine: str,
    now: float,
    restarts: int,
    nodes: NodeShares = (),
) -> Facts:
    """The facts of a new replica of an assignment; ``engine`` is what will truly run."""
    substituted = engine != assignment.engine.engine
    return Facts(
        replica_id=replica_id,
        assignment_id=assignment.assignment_id,
        deployment_id=assignment.deployment_id,
        revision_id=assignment.revision_id,
        revision=assignment.revision,
        pool_id=assignment.pool_id,
        gpus=assignment.gpus_per_replica,
        engine=engine,
        served_model=assignment.deployment,
        concurrency_target=assignment.autoscaling.concurrency_target,
        max_in_flight=sequences_max(engine, {} if substituted else assignment.engine.arguments),
        max_context_tokens=assignment.model.max_context_tokens,
        adapters=tuple(adapter.name for adapter in assignment.adapters),
        adapter_slots=adapter_slots(
            {} if substituted else assignment.engine.arguments, len(assignment.adapters)
        ),
        created_at=now,
        restarts=restarts,
        nodes=nodes,
    )


def facts_from(running: RunningReplica) -> Facts:
    """The facts of an adopted replica. Raises KeyError or ValueError if its labels are not this agent's."""
    labels: Mapping[str, str] = running.spec.labels
    return Facts(
        replica_id=running.spec.replica_id,
        assignment_id=labels["assignment_id"],
        deployment_id=labels["deployment_id"],
        revision_id=labels["revision_id"],
        revision=int(labels["revision"]),
        pool_id=labels["pool_id"],
        gpus=int(labels["gpus"]),
        engine=running.spec.engine,
        served_model=running.endpoint.served_model,
        concurrency_target=float(labels["concurrency_target"]),
        max_in_flight=int(labels.get("max_in_flight", "0")),  # one started by an older agent has none
        max_context_tokens=int(labels.get("max_context_tokens", "0")),
        adapters=tuple(filter(None, labels.get("adapters", "").split(","))),
        adapter_slots=int(labels.get("adapter_slots", "0")),
        created_at=float(labels["created_at"]),
        restarts=int(labels["restarts"]),
        nodes=read(labels.get("nodes", "")),
    )


def facts_observed(observed: ObservedReplica) -> Facts:
    """The facts of a replica that is gone, as far as it was reported; it holds no GPUs and serves nothing."""
    return Facts(
        replica_id=observed.replica_id,
        assignment_id=observed.assignment_id,
        deployment_id=observed.deployment_id,
        revision_id=observed.revision_id,
        revision=observed.revision,
        pool_id=observed.pool_id,
        gpus=0,
        engine=observed.engine,
        served_model="",
        concurrency_target=1.0,
        max_in_flight=0,
        max_context_tokens=0,
        adapters=(),
        adapter_slots=0,
        created_at=observed.created_at,
        restarts=observed.restarts,
    )


@dataclass(slots=True, eq=False, kw_only=True)
class ReplicaRecord:
    """A replica. ``*_at`` are seconds since 1970, ``*_since`` are of the monotonic clock.

    drain_generation: the endpoint generation from which gateways know that it drains
    start_was_seen:   False if it was found without a record: how long its start took is not known
    drained_from:     its state when its drain began: from ready it can be recalled
    drain_is_final:   its place is promised to another replica
    cordoned:         a node that it is on is being emptied
    leave_by_since:   its capacity is taken back: by then it must have ended
    hand_over:        for that reason gateways are to move what it runs
    suspected:        a gateway avoids it; ``suspicion`` is set when one begins to
    """

    facts: Facts
    state: ReplicaState = "pending"
    phase: str | None = None
    reason: str = ""
    message: str = ""
    running: RunningReplica | None = None
    launched_since: float = 0.0
    ready_at: float | None = None
    stopped_at: float | None = None
    ended_since: float | None = None
    cold_start: ColdStart = field(default_factory=ColdStart)
    start_was_seen: bool = True
    evidence: deque[ProbeResult] = field(default_factory=lambda: deque(maxlen=16))
    metrics: EngineMetrics | None = None
    metrics_since: float = 0.0
    kv: KvCounts = field(default_factory=KvCounts)
    drain_since: float | None = None
    drain_limit_s: float = DRAIN_LIMIT_S
    drain_generation: int | None = None
    drained_from: ReplicaState | None = None
    drain_is_final: bool = False
    stop_ordered: bool = False
    cordoned: bool = False
    leave_by_since: float | None = None
    hand_over: bool = False
    suspected: bool = False
    suspicion: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def replica_id(self) -> str:
        return self.facts.replica_id

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def observed(self) -> ObservedReplica:
        """As the control plane shall know it."""
        facts = self.facts
        return ObservedReplica(
            replica_id=facts.replica_id,
            assignment_id=facts.assignment_id,
            deployment_id=facts.deployment_id,
            revision_id=facts.revision_id,
            revision=facts.revision,
            pool_id=facts.pool_id,
            engine=facts.engine,
            runtime_ref=self.running.runtime_ref if self.running is not None else "",
            state=self.state,
            phase=self.phase,
            reason=self.reason,
            message=self.message,
            created_at=facts.created_at,
            ready_at=self.ready_at,
            stopped_at=self.stopped_at,
            cold_start=self.cold_start,
            restarts=facts.restarts,
        )

    def endpoint(self) -> Endpoint | None:
        """As gateways shall know it; None while they shall not."""
        if self.running is None or self.state not in ("ready", "unhealthy", "draining"):
            return None
        if self.drained_from == "starting":
            return None
        facts = self.facts
        return Endpoint(
            replica_id=facts.replica_id,
            deployment_id=facts.deployment_id,
            revision_id=facts.revision_id,
            revision=facts.revision,
            pool_id=facts.pool_id,
            engine=facts.engine,
            host=self.running.endpoint.host,
            port=self.running.endpoint.port,
            engine_key=self.running.endpoint.engine_key,
            served_model=facts.served_model,
            concurrency_target=facts.concurrency_target,
            state="ready" if self.state == "ready" else "draining",
            max_in_flight=facts.max_in_flight,
            max_context_tokens=facts.max_context_tokens,
            adapters=facts.adapters,
            adapter_slots=facts.adapter_slots,
            hand_over=self.hand_over,
        )

    def load(self) -> ReplicaLoad | None:
        """What was last read off its metrics; None before the first reading."""
        metrics = self.metrics
        if metrics is None or self.state in ENDED:
            return None
        return ReplicaLoad(
            replica_id=self.replica_id,
            running=metrics.running or 0,
            waiting=metrics.waiting or 0,
            kv_cache_usage=metrics.kv_cache_usage,
            prompt_tokens_total=metrics.prompt_tokens_total or 0,
            generation_tokens_total=metrics.generation_tokens_total or 0,
        )

    def engine_load(self) -> EngineLoad | None:
        """The same for gateways, with its age."""
        metrics = self.metrics
        if metrics is None or metrics.running is None or self.state in ENDED:
            return None
        return EngineLoad(
            replica_id=self.replica_id,
            at_monotonic_s=self.metrics_since,
            running=metrics.running,
            waiting=metrics.waiting or 0,
            kv_cache_usage=metrics.kv_cache_usage,
            kv_capacity_tokens=metrics.kv_capacity_tokens or 0,
            kv_stored_tokens_total=self.kv.stored_tokens if self.kv.heard else None,
            kv_clears=self.kv.clears,
        )

    def held(self, *, in_flight: int, clear: bool) -> HeldReplica:
        """As the decisions see it, given what the gateways say of it."""
        running = 0 if self.metrics is None else (self.metrics.running or 0)
        return HeldReplica(
            replica_id=self.replica_id,
            assignment_id=self.facts.assignment_id,
            deployment_id=self.facts.deployment_id,
            pool_id=self.facts.pool_id,
            gpus=self.facts.gpus,
            state=self.state,
            created_at=self.facts.created_at,
            in_flight=in_flight,
            clear=self.drained_from == "starting" or (clear and running == 0),
            drain_since=self.drain_since,
            drain_limit_s=self.drain_limit_s,
            stop_ordered=self.stop_ordered,
            leave_by=self.leave_by_since,
            cordoned=self.cordoned,
            recallable=self.state == "draining"
            and self.drained_from == "ready"
            and not (self.drain_is_final or self.stop_ordered),
        )
