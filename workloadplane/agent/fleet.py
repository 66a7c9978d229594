"""The replicas of this cluster: started, watched, probed, drained and stopped; their states change by one door.

Every replica has a few tasks of its own: one waits for its end, one asks it for tokens, one reads its
metrics. What should be running is not decided here.
"""

import asyncio
import secrets
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Set
from dataclasses import replace
from typing import Any

import httpx
import structlog

from workloadplane.agent.backoff import CrashRecord, after_end, start_not_before
from workloadplane.agent.http import http_client
from workloadplane.agent.last_words import cause_in
from workloadplane.agent.nodes import NodeShares
from workloadplane.agent.probing import Prober
from workloadplane.agent.record import ReplicaRecord, facts_from, facts_observed, facts_of
from workloadplane.agent.stopping import STOP_ORDERED
from workloadplane.agent.timings import AgentTimings
from workloadplane.engines import engine_named
from workloadplane.engines.base import EngineAdapter, EngineReplica
from workloadplane.health.notices import Departure
from workloadplane.health.replica import REPLICA_STATES, ReplicaEvent, ReplicaState, step
from workloadplane.protocol.desired import DesiredAssignment
from workloadplane.protocol.observed import ObservedReplica
from workloadplane.protocol.refusal import Refusal
from workloadplane.runtimes.base import ReplicaExit, ReplicaSpec, Runtime

_log = structlog.get_logger(__name__)

_MESSAGE_CHARS_MAX = 500
_LAST_LOG_BYTES = 256 * 1024
#: What an engine gets to end itself when its machine is about to be taken away.
_LAST_GRACE_S = 2.0
#: More ended replicas than this are not remembered, however long the control plane is away.
_ENDED_MAX = 500


class Fleet:
    """All replicas of one agent. One event loop owns it."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        substitutions: Mapping[str, str],
        timings: AgentTimings,
        on_change: Callable[[ReplicaRecord], None],
    ) -> None:
        """``on_change`` is called at once after each change of a replica's state, phase or drain."""
        self.records: dict[str, ReplicaRecord] = {}
        self._runtime = runtime
        self._substitutions = substitutions
        self._timings = timings
        self._on_change = on_change
        self._crashes: dict[str, CrashRecord] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = http_client(limits=httpx.Limits(max_connections=256, max_keepalive_connections=64))

    async def adopt(self, remembered: Mapping[str, ObservedReplica], served: Set[str]) -> None:
        """Take over every replica that still runs, in the state it was last known to be in.

        Those remembered as alive that no longer run have ended while nobody watched. ``served``: ids that
        gateways were last told to use, which counts where the memory of the replica itself was lost.
        """
        for running in await self._runtime.adopt():
            try:
                facts = facts_from(running)
            except (KeyError, ValueError) as error:
                _log.warning("replica without our labels", runtime_ref=running.runtime_ref, error=repr(error))
                await self._runtime.stop(running.runtime_ref)
                continue
            record = ReplicaRecord(facts=facts, running=running, state="starting", phase="engine_start")
            record.launched_since = time.monotonic() - max(0.0, time.time() - running.started_at)
            before = remembered.get(facts.replica_id)
            if before is not None:
                _remember(record, before)
            if record.state == "starting" and facts.replica_id in served:
                record.state, record.phase, record.ready_at = "ready", None, time.time()
            record.start_was_seen = before is not None
            self.records[facts.replica_id] = record
            self._attend(record)
        for replica_id, before in remembered.items():
            if replica_id not in self.records:
                self.records[replica_id] = _vanished(before)

    def close(self) -> None:
        """Stop watching; the replicas go on."""
        for task in self._tasks:
            task.cancel()

    async def closed(self) -> None:
        """Wait until the tasks of ``close`` have ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def start_not_before(self, assignment_id: str) -> float:
        """When (monotonic) the next replica of an assignment may start, after ends that came too early."""
        return start_not_before(self._crashes.get(assignment_id, CrashRecord()))

    def start(self, assignment: DesiredAssignment, nodes: NodeShares) -> None:
        """Begin a new replica of an assignment, on these nodes."""
        crashes = self._crashes.get(assignment.assignment_id, CrashRecord())
        engine = self._substitutions.get(assignment.engine.engine, assignment.engine.engine)
        facts = facts_of(
            assignment,
            replica_id=str(uuid.uuid4()),
            engine=engine,
            now=time.time(),
            restarts=crashes.failures,
            nodes=nodes,
        )
        record = ReplicaRecord(facts=facts)
        self.records[facts.replica_id] = record
        substituted = engine != assignment.engine.engine
        spec = ReplicaSpec(
            replica_id=facts.replica_id,
            engine=engine,
            replica=EngineReplica(
                served_model=assignment.deployment,
                source_uri=assignment.model.source_uri,
                precision=assignment.model.precision,
                max_context_tokens=assignment.model.max_context_tokens,
                engine_version=assignment.engine.version,
                arguments={} if substituted else assignment.engine.arguments,
                engine_key=secrets.token_urlsafe(32),
                shutdown_timeout_s=self._timings.shutdown_s,
                adapters=tuple(
                    EngineAdapter(
                        served_model=f"{assignment.deployment}:{adapter.name}",
                        source_uri=adapter.source_uri,
                        rank=adapter.rank,
                    )
                    for adapter in assignment.adapters
                ),
                adapter_slots=facts.adapter_slots,
            ),
            labels=facts.labels(),
        )
        self._on_change(record)
        self._spawn(self._launch(record, spec))

    def drain(self, replica_id: str, *, reason: str, limit_s: float, final: bool) -> None:
        """Take a replica from the gateways. One that is still being launched is left for the next pass."""
        record = self.records[replica_id]
        if record.state == "pending":
            return
        record.drain_since, record.drain_limit_s = time.monotonic(), limit_s
        record.drained_from, record.drain_is_final = record.state, final
        self._apply(record, "drain_ordered", reason, "")

    def retarget(self, concurrency_targets: Mapping[str, float]) -> None:
        """Policies change without a new revision: replicas of these assignments have these targets now.

        What is remembered of assignments that are not named is dropped.
        """
        self._crashes = {name: crash for name, crash in self._crashes.items() if name in concurrency_targets}
        for record in self.records.values():
            target = concurrency_targets.get(record.facts.assignment_id)
            if target is not None and target != record.facts.concurrency_target and not record.ended:
                record.facts = replace(record.facts, concurrency_target=target)
                self._on_change(record)

    def expect_departure(self, record: ReplicaRecord, departure: Departure | None, *, now: float) -> None:
        """Note until when a replica's capacity is there, and whether it is time to hand over what it runs."""
        record.leave_by_since = None if departure is None else departure.stop_since
        hand_over = departure is not None and now >= departure.hand_over_since
        if hand_over != record.hand_over:
            record.hand_over = hand_over
            self._on_change(record)

    def recall(self, replica_id: str) -> None:
        """Call a drain off."""
        record = self.records[replica_id]
        record.drain_since = record.drain_generation = None
        self._apply(record, "recalled", "DrainRecalled", "")

    def stop(self, replica_id: str, *, overdue: bool) -> None:
        """End a drained replica's process; the engine itself may still finish what it has."""
        record = self.records[replica_id]
        if record.running is None or record.stop_ordered:
            return
        record.stop_ordered = True
        if overdue:
            record.message = f"stopped with requests in flight after {record.drain_limit_s:.0f} s of draining"
            _log.warning("drain limit passed", replica_id=replica_id, limit_s=record.drain_limit_s)
        grace_s = None if record.leave_by_since is None else _LAST_GRACE_S
        self._spawn(self._stop(record.running.runtime_ref, grace_s))

    def suspect(self, replica_ids: Set[str]) -> None:
        """Gateways avoid these: look at them at once, and with less patience."""
        for record in self.records.values():
            was, record.suspected = record.suspected, record.replica_id in replica_ids
            if record.suspected and not was:
                record.suspicion.set()

    def forget_ended(self, reported: Callable[[str], bool]) -> None:
        """Drop ended replicas that were reported long enough ago, and the oldest beyond a bound."""
        now = time.monotonic()
        ended = [record for record in self.records.values() if record.ended]
        ended.sort(key=lambda record: record.ended_since or 0.0)
        surplus = len(ended) - _ENDED_MAX
        for index, record in enumerate(ended):
            old = now - (record.ended_since or 0.0) >= self._timings.ended_kept_s
            if index < surplus or (old and reported(record.replica_id)):
                del self.records[record.replica_id]

    def _apply(self, record: ReplicaRecord, event: ReplicaEvent, reason: str, message: str) -> bool:
        """The one door: take the transition if there is one, and tell."""
        outcome = step(record.state, event)
        if isinstance(outcome, Refusal):
            _log.warning("replica event refused", replica_id=record.replica_id, reason=str(outcome))
            return False
        record.state, record.reason = outcome.after, reason[:63]
        record.message = message[:_MESSAGE_CHARS_MAX]
        if outcome.after != "starting":
            record.phase = None
        _log.info(
            "replica",
            replica_id=record.replica_id,
            deployment=record.facts.served_model,
            before=outcome.before,
            state=outcome.after,
            reason=reason,
            message=record.message,
        )
        self._on_change(record)
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a replica's task ended by a fault of ours", exc_info=task.exception())

    async def _launch(self, record: ReplicaRecord, spec: ReplicaSpec) -> None:
        outcome = await self._runtime.start(spec)
        if isinstance(outcome, Refusal):
            self._end(record, "launch_failed", "LaunchRefused", str(outcome))
            return
        record.running = outcome
        record.launched_since = time.monotonic()
        record.phase = "weight_load"
        self._apply(record, "launched", "Launched", "")
        self._attend(record)

    def _attend(self, record: ReplicaRecord) -> None:
        engine = engine_named(record.facts.engine)
        running = record.running
        if running is None:
            return
        self._spawn(self._await_end(record, running.runtime_ref))
        if isinstance(engine, Refusal):
            _log.error("engine unknown here", replica_id=record.replica_id, reason=str(engine))
            return
        prober = Prober(
            record,
            running,
            engine=engine,
            runtime=self._runtime,
            client=self._client,
            timings=self._timings,
            apply=self._apply,
            on_change=self._on_change,
        )
        self._spawn(prober.probe_on())
        self._spawn(prober.scrape_on())
        self._spawn(prober.hear_kv_events())

    async def _await_end(self, record: ReplicaRecord, runtime_ref: str) -> None:
        ended = await self._runtime.wait(runtime_ref)
        if record.state == "draining":
            reason, message = "Stopped", record.message or "drained and stopped"
        else:
            reason, message = "Exited", await self._last_words(record, ended)
        self._end(record, "exited", reason, message)
        await self._runtime.stop(runtime_ref)

    async def _last_words(self, record: ReplicaRecord, ended: ReplicaExit) -> str:
        """How it ended; and why, by its log, if it never served: then no client's text can be in it."""
        message = "ended unasked"
        if ended.exit_code is not None:
            message += f", exit code {ended.exit_code}"
        if record.ready_at is not None or record.running is None:
            return message
        log = await self._runtime.log_tail(record.running.runtime_ref, max_bytes=_LAST_LOG_BYTES)
        cause = cause_in(log)
        return f"{message}: {cause}" if cause else message

    def _end(self, record: ReplicaRecord, event: ReplicaEvent, reason: str, message: str) -> None:
        now = time.time()
        record.stopped_at, record.ended_since = now, time.monotonic()
        if record.state != "draining" or record.drained_from == "unhealthy":
            ready_for_s = None if record.ready_at is None else now - record.ready_at
            assignment_id = record.facts.assignment_id
            crashes = self._crashes.get(assignment_id, CrashRecord())
            self._crashes[assignment_id] = after_end(crashes, now=time.monotonic(), ready_for_s=ready_for_s)
        self._apply(record, event, reason, message)

    async def _stop(self, runtime_ref: str, grace_s: float | None) -> None:
        await self._runtime.stop(runtime_ref, grace_s=grace_s)


def _remember(record: ReplicaRecord, before: ObservedReplica) -> None:
    """What an adopted replica was when it was last reported. One that was draining drains again."""
    record.ready_at, record.cold_start = before.ready_at, before.cold_start
    record.reason, record.message = before.reason, before.message
    state = _known_state(before.state)
    if state in ("ready", "unhealthy", "draining"):
        record.state, record.phase = state, None
    if state == "draining":
        record.drain_since = time.monotonic()


def _vanished(before: ObservedReplica) -> ReplicaRecord:
    """A replica that was alive when the agent last looked, and is gone."""
    record = ReplicaRecord(
        facts=facts_observed(before),
        state=_known_state(before.state),
        reason=before.reason,
        message=before.message,
        ready_at=before.ready_at,
        stopped_at=before.stopped_at,
        ended_since=time.monotonic(),
        cold_start=before.cold_start,
    )
    if not record.ended:
        record.state = "stopped" if before.state == "draining" else "failed"
        record.stopped_at = before.stopped_at or time.time()
        if before.reason != STOP_ORDERED:
            record.reason, record.message = "Vanished", "ended while the agent was away"
    return record


def _known_state(state: str) -> ReplicaState:
    return next((known for known in REPLICA_STATES if known == state), "failed")
