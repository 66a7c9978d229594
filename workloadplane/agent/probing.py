"""Asking one replica for tokens and for its metrics, for as long as it lives.

A starting replica is asked often, a ready one only when its counters show that nobody else is being
answered: a probe costs a token and a place in its queue.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

import httpx

from workloadplane.agent import kv_listening
from workloadplane.agent.record import ReplicaRecord
from workloadplane.agent.timings import AgentTimings
from workloadplane.engines.base import Engine
from workloadplane.health.probes import ProbeResult, judge
from workloadplane.health.replica import ReplicaEvent
from workloadplane.protocol.refusal import Refusal
from workloadplane.runtimes.base import RunningReplica, Runtime

_FIRST_PAUSE_S = 0.05
_SILENT_PAUSE_S = 1.0
_LOG_BYTES = 256 * 1024


class Prober:
    """The evidence of one replica's health. Its two coroutines end when the replica has ended."""

    def __init__(
        self,
        record: ReplicaRecord,
        running: RunningReplica,
        *,
        engine: Engine,
        runtime: Runtime,
        client: httpx.AsyncClient,
        timings: AgentTimings,
        apply: Callable[[ReplicaRecord, ReplicaEvent, str, str], bool],
        on_change: Callable[[ReplicaRecord], None],
    ) -> None:
        self._record = record
        self._running = running
        self._engine = engine
        self._runtime = runtime
        self._client = client
        self._timings = timings
        self._apply = apply
        self._on_change = on_change
        self._policy = replace(timings.probes, start_limit_s=engine.start_timeout_s)
        self._tokens_before: int | None = None

    async def probe_on(self) -> None:
        """Probe until the replica has ended."""
        record, timings = self._record, self._timings
        start_pause_s = _FIRST_PAUSE_S
        while not record.ended:
            pause_s = timings.liveness_s
            if record.state == "starting":
                await self._probe_start()
                start_pause_s = min(timings.start_probe_s, start_pause_s * 1.5)
                pause_s = start_pause_s if record.state == "starting" else timings.liveness_s
            elif record.state == "ready":
                await self._probe_living()
                is_silent = not (record.evidence[-1].answered or record.evidence[-1].progressed)
                if is_silent or record.suspected:
                    pause_s = min(_SILENT_PAUSE_S, timings.liveness_s)
            await self._pause(pause_s)

    async def _pause(self, pause_s: float) -> None:
        """Wait, unless a gateway begins to avoid the replica."""
        suspicion = self._record.suspicion
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await suspicion.wait()
        suspicion.clear()

    async def scrape_on(self) -> None:
        """Read the metrics until the replica has ended."""
        record = self._record
        while not record.ended:
            if record.state in ("ready", "unhealthy", "draining"):
                metrics = await self._engine.scrape(self._client, self._running.endpoint)
                record.metrics = None if isinstance(metrics, Refusal) else metrics
                record.metrics_since = time.monotonic()
            await asyncio.sleep(self._timings.scrape_s)
        record.metrics = None

    async def hear_kv_events(self) -> None:
        """Count what the engine publishes of its KV cache, until the replica has ended."""
        address = self._running.endpoint.kv_events
        if not address:
            return
        listening = asyncio.create_task(kv_listening.listen(address, self._record.kv))
        try:
            while not self._record.ended and not listening.done():
                await asyncio.wait({listening}, timeout=self._timings.scrape_s)
        finally:
            listening.cancel()

    async def _probe_start(self) -> None:
        record = self._record
        result = await self._ask(self._timings.start_probe_timeout_s)
        log = await self._runtime.log_tail(self._running.runtime_ref, max_bytes=_LOG_BYTES)
        if record.state != "starting":
            return
        record.evidence.append(result)
        phase = self._engine.starting_phase(log)
        if phase != record.phase and not result.answered:
            record.phase = phase
            self._on_change(record)
        if result.answered:
            record.ready_at = time.time()
            if record.start_was_seen:
                wall_s = record.ready_at - self._running.started_at
                record.cold_start = self._engine.cold_start(log, wall_s=wall_s)
        self._judge()

    async def _probe_living(self) -> None:
        record = self._record
        tokens = record.metrics.generation_tokens_total if record.metrics is not None else None
        progressed = tokens is not None and self._tokens_before is not None and tokens > self._tokens_before
        if progressed:
            result = ProbeResult(at=time.monotonic(), answered=False, progressed=True)
        else:
            result = await self._ask_soon()
        # The probe's own token must not look like somebody else's next time.
        self._tokens_before = None if tokens is None else tokens + (1 if result.answered else 0)
        if record.state != "ready":
            return
        record.evidence.append(result)
        self._judge()

    async def _ask_soon(self) -> ProbeResult:
        """Ask with the patience that it deserves; less from when a gateway begins to avoid it."""
        timings, record = self._timings, self._record
        if not record.suspected:
            record.suspicion.clear()
            asking = asyncio.create_task(self._ask(timings.liveness_timeout_s))
            suspecting = asyncio.create_task(record.suspicion.wait())
            try:
                await asyncio.wait({asking, suspecting}, return_when=asyncio.FIRST_COMPLETED)
                if asking.done():
                    return await asking
            finally:
                suspecting.cancel()
                if not asking.done():
                    asking.cancel()
        return await self._ask(min(timings.suspected_timeout_s, timings.liveness_timeout_s))

    async def _ask(self, timeout_s: float) -> ProbeResult:
        readiness = await self._engine.probe(self._client, self._running.endpoint, timeout_s=timeout_s)
        message = "" if readiness.ready else f"{readiness.reason}: {readiness.message}"
        return ProbeResult(at=time.monotonic(), answered=readiness.ready, message=message)

    def _judge(self) -> None:
        record = self._record
        judgement = judge(
            list(record.evidence),
            record.state,
            self._policy,
            started_at=record.launched_since,
            now=time.monotonic(),
        )
        if judgement.event is not None:
            self._apply(record, judgement.event, judgement.reason, judgement.message)
