"""A standby is tested, not believed: one token now and then, over the way that requests take.

Of every ``active_passive`` deployment that this cluster stands by for, each ready replica in turn is asked for a token.
Nobody pays for it: it is a usage record of class ``probe``, and in no window, so it is no demand. A replica that fails
is avoided as if it had failed a client; its agent hears of that, tries it and replaces it, and a cluster without a
ready replica is not promoted.
"""

import asyncio
import time
from secrets import token_hex
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from workloadplane.gateway.upstream import ResponseHead, Target
from workloadplane.health.ejection import Event
from workloadplane.protocol.local import Endpoint
from workloadplane.protocol.routing import Route
from workloadplane.protocol.usage import UsageRecord

if TYPE_CHECKING:
    from workloadplane.gateway.context import GatewayContext

TICK_S = 0.5
_PATH = b"/v1/completions"
_ANSWER_WITHIN_S = 30.0
_ANSWER_BYTES_MAX = 64 * 1024
#: Of no key: nobody asked.
_NO_KEY = "00000000-0000-0000-0000-000000000000"


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Answer(msgspec.Struct):
    usage: _Usage


class _Asking:
    """One question and what came of it. ``lost``: the connection ended first."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.is_whole = self.lost = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_response(self, head: ResponseHead | None, data: bytes, complete: bool) -> None:
        self.status = head.status if head is not None else self.status
        self.body = (self.body + data)[:_ANSWER_BYTES_MAX]
        if complete:
            self.is_whole = True
            self._end()

    def on_upstream_lost(self, *, valid_http: bool) -> None:
        self.lost = True
        self._end()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class StandbyProbes:
    """One per process; of several that share a port the first one asks."""

    def __init__(self, context: "GatewayContext", *, asks: bool) -> None:
        self._context = context
        self._asks = asks
        self._due_s: dict[str, float] = {}
        self._last: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def tick(self) -> None:
        """Ask where it is time to."""
        registry = self._context.registry
        routes = [route for route in registry.deployments.values() if self._stands_by(route)]
        self._due_s = {
            route.deployment_id: self._due_s.get(route.deployment_id, monotonic()) for route in routes
        }
        for route in routes:
            if monotonic() < self._due_s[route.deployment_id]:
                continue
            replica = self._next(route.deployment_id)
            if replica is not None:
                self._due_s[route.deployment_id] = monotonic() + self._context.limits.standby_probe_s
                task = asyncio.create_task(self._probe(route, replica))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _stands_by(self, route: Route) -> bool:
        if not self._asks or route.posture != "active_passive":
            return False
        here = self._context.registry.cluster_id
        return any(here in share.cluster_ids[1:] for share in route.revisions)

    def _next(self, deployment_id: str) -> Endpoint | None:
        """Its ready replicas in turn."""
        ready = sorted(
            (e for e in self._context.registry.endpoints.values() if e.deployment_id == deployment_id),
            key=lambda endpoint: endpoint.replica_id,
        )
        ready = [endpoint for endpoint in ready if endpoint.state == "ready"]
        if not ready:
            return None
        last = self._last.get(deployment_id, "")
        found = next((endpoint for endpoint in ready if endpoint.replica_id > last), ready[0])
        self._last[deployment_id] = found.replica_id
        return found

    async def _probe(self, route: Route, replica: Endpoint) -> None:
        began_s = monotonic()
        self._note(replica, "sent")
        asking, failure = await self._ask(replica)
        usage = _tokens(asking)
        if failure is None and usage is None:
            failure = "failed"
        self._note(replica, failure or "answered")
        self._context.counters.standby_probes[route.deployment_id, failure or "answered"] += 1
        self._record(route, replica, asking, usage or _Usage(), began_s, failed=failure is not None)

    async def _ask(self, replica: Endpoint) -> tuple[_Asking, Event | None]:
        """What came back, and what is to be held against the replica."""
        pool, asking = self._context.pool, _Asking()
        target = Target(replica.host, replica.port, replica.tls, replica.tls_name)
        try:
            connection = await pool.connect(target)
        except OSError:
            return asking, "unreachable"
        body = msgspec.json.encode(
            {"model": replica.served_model, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
        )
        head = (
            b"POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"authorization: Bearer %s\r\n\r\n"
            % (_PATH, target.authority.encode(), len(body), replica.engine_key.encode())
        )
        connection.send(asking, head, body)
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                await asking.over
        except TimeoutError:
            return asking, "stuck"
        finally:
            if not asking.is_whole:
                connection.abandon()
        if asking.lost:
            return asking, "broken"
        return asking, None if asking.status == 200 else "failed"

    def _note(self, replica: Endpoint, event: Event) -> None:
        ejections = self._context.registry.ejections
        if event not in ("sent", "answered") or replica.replica_id in ejections.states:
            ejections.note(replica.replica_id, event, monotonic(), deployment_id=replica.deployment_id)

    def _record(
        self, route: Route, replica: Endpoint, asking: _Asking, usage: _Usage, began_s: float, *, failed: bool
    ) -> None:
        spool, registry = self._context.spool, self._context.registry
        duration_s = monotonic() - began_s
        spool.append_usage(
            UsageRecord(
                gateway_instance=spool.gateway_instance,
                sequence=spool.next_usage_sequence(),
                request_id=f"probe-{token_hex(8)}",
                finished_at=time.time(),
                project_id=route.project_id,
                api_key_id=_NO_KEY,
                deployment_id=route.deployment_id,
                revision_id=replica.revision_id,
                revision=replica.revision,
                replica_id=replica.replica_id,
                pool_id=replica.pool_id,
                served_cluster_id=registry.cluster_id,
                origin=registry.region,
                request_class="probe",
                route="completions",
                status=asking.status,
                outcome="upstream_error" if failed else "ok",
                input_tokens=usage.prompt_tokens,
                cached_tokens=0,
                output_tokens=usage.completion_tokens,
                queue_s=0.0,
                ttft_s=None if failed else duration_s,
                duration_s=duration_s,
                inter_token_latency_s_mean=None,
                inter_token_latency_s_max=None,
            )
        )


def _tokens(asking: _Asking) -> _Usage | None:
    """What the engine says it generated; ``None`` where that is nothing. A page that is fine is not believed."""
    try:
        usage = msgspec.json.decode(asking.body, type=_Answer).usage
    except msgspec.DecodeError:
        return None
    return usage if usage.completion_tokens > 0 else None
