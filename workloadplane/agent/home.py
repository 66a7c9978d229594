"""The loop that calls home: one sync after another, each a long poll while there is nothing to tell.

A sync with news asks for an immediate answer; one without waits at the control plane for ``sync_wait_s``
and is cut short when news arises here. So news travels at once both ways, and an idle agent is heard every
second. When the control plane is away everything else goes on; nothing that was not acknowledged is forgotten.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from workloadplane.agent.backoff import pause_s
from workloadplane.agent.control import ControlClient, ControlError
from workloadplane.agent.disk import AgentIdentity
from workloadplane.agent.enrolment import Enrolment
from workloadplane.agent.timings import AgentTimings
from workloadplane.protocol import WIRE_VERSION
from workloadplane.protocol.observed import ObservedDelta, ReplicaLoad, ScalingDecision
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.spool import SpoolBatch, SpoolReader
from workloadplane.protocol.sync import MAX_SYNC_BYTES, SyncRequest, SyncResponse

_log = structlog.get_logger(__name__)

_USAGE_MAX = 2000
_WINDOWS_MAX = 500
#: A sync without news that is answered sooner than this is not repeated before it has passed.
_IDLE_SPACING_S = 0.5
#: What was sent and not acknowledged, or came and could not be kept, is not tried again before this.
_UNHEARD_SPACING_S = 1.0
_REPLACED = frozenset({"superseded", "fenced", "not_enrolled"})


class Household(Protocol):
    """What the loop needs of the agent."""

    @property
    def identity(self) -> AgentIdentity:
        """Who the agent is."""

    def held(self) -> dict[str, int]:
        """Table kind -> generation to ask newer ones of."""

    def next_delta(self) -> ObservedDelta | None:
        """The observed state as far as it is news."""

    def loads(self) -> tuple[ReplicaLoad, ...]:
        """The replicas' loads as last read."""

    def decisions(self) -> tuple[ScalingDecision, ...]:
        """Those of scaling that have not been delivered, the oldest first."""

    def decisions_heard(self, decisions: tuple[ScalingDecision, ...]) -> None:
        """These have been."""

    def follows_logs(self) -> bool:
        """Whether logs are being delivered."""

    async def take(self, response: SyncResponse) -> bool:
        """Adopt what came; whether something did."""

    async def take_identity(self, identity: AgentIdentity) -> None:
        """Become who the control plane now says we are."""


_NOT_ENROLLED = Refusal(
    rule="not_enrolled",
    subject="agent",
    value="the control plane does not know this agent's key",
    remedy="put a new enrolment token into the token file",
)


@dataclass(frozen=True, slots=True)
class _Outgoing:
    request: SyncRequest
    is_news: bool


class Home:
    """Syncs for as long as it runs. ``standing``: another instance holds the cluster; None if not."""

    def __init__(
        self,
        client: ControlClient,
        household: Household,
        enrolment: Enrolment,
        *,
        instance_id: str,
        spool_dir: Path,
        timings: AgentTimings,
        on_standing: Callable[[], None],
        on_heard: Callable[[float], None],
    ) -> None:
        """``on_heard`` gets the monotonic time at which an answer that renews the lease was asked for."""
        self.standing: Refusal | None = None
        self._client = client
        self._household = household
        self._enrolment = enrolment
        self._instance_id = instance_id
        self._spool = SpoolReader(spool_dir)
        self._timings = timings
        self._on_standing = on_standing
        self._on_heard = on_heard
        self._sequence = 0
        self._usage_max = _USAGE_MAX
        self._news = asyncio.Event()

    def tell(self) -> None:
        """There is news: do not wait with the next sync."""
        self._news.set()

    async def run(self) -> None:
        """Sync until cancelled."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                busy = await self._sync_once()
                failures = 0
            except ControlError as error:
                failures += 1
                await self._rest_after(error, failures)
                continue
            if self.standing is not None:
                await self._under_refusal()
            elif not busy:
                await self._until_news(_IDLE_SPACING_S - (time.monotonic() - started))

    async def _sync_once(self) -> bool:
        """One sync; whether it had something to tell or to bring. Raises ControlError."""
        self._news.clear()
        outgoing = await self._outgoing()
        asked_at = time.monotonic()
        if outgoing.is_news:
            response = await self._client.sync(outgoing.request)
        else:
            maybe = await self._interruptible(outgoing.request)
            if maybe is None:
                return True
            response = maybe
        await asyncio.to_thread(self._acknowledge, response)
        self._stand(response.refusal)
        brought = await self._household.take(response)
        if response.refusal is None:
            self._household.decisions_heard(outgoing.request.decisions)
        if response.refusal is None and self._holds_routing(response):
            self._on_heard(asked_at)
        if response.refusal is not None and self.standing is None:
            raise ControlError(f"refused: {response.refusal}")
        if response.tables and not brought:
            await asyncio.sleep(_UNHEARD_SPACING_S)
        elif outgoing.is_news and not _was_heard(outgoing.request, response):
            await self._until_news(_UNHEARD_SPACING_S)
        return brought or outgoing.is_news

    def _holds_routing(self, response: SyncResponse) -> bool:
        """Whether the routing table that came, if one came, is in force: else this may not be the one that serves."""
        update = response.tables.get("routing")
        return update is None or self._household.held().get("routing", 0) >= update.manifest.generation

    async def _outgoing(self) -> _Outgoing:
        batch = await asyncio.to_thread(self._pending)
        delta = self._household.next_delta()
        decisions = self._household.decisions()
        is_news = delta is not None or bool(batch.usage or batch.windows or decisions)
        self._sequence += 1
        identity = self._household.identity
        wait_s = 0.0 if is_news else self._timings.sync_wait_s * random.uniform(0.75, 1.0)  # noqa: S311
        request = SyncRequest(
            wire_version=WIRE_VERSION,
            cluster_id=identity.cluster_id,
            instance_id=self._instance_id,
            cluster_epoch=identity.cluster_epoch,
            plane_epoch=identity.plane_epoch,
            sequence=self._sequence,
            wait_s=wait_s,
            held=self._household.held(),
            observed=delta,
            loads=self._household.loads(),
            usage=batch.usage,
            windows=batch.windows,
            logs_followed=self._household.follows_logs(),
            decisions=decisions,
        )
        return _Outgoing(self._fitting(request), is_news)

    def _fitting(self, request: SyncRequest) -> SyncRequest:
        """The request with as much usage as its size allows; what is left out is sent with the next."""
        while len(msgspec.json.encode(request)) > MAX_SYNC_BYTES and (request.usage or request.windows):
            request = msgspec.structs.replace(
                request,
                usage=request.usage[: len(request.usage) // 2],
                windows=request.windows[: len(request.windows) // 2],
            )
        return request

    def _pending(self) -> SpoolBatch:
        try:
            batch = self._spool.pending(self._usage_max)
        except OSError as error:
            _log.warning("usage spool can't be read", reason=str(error))
            return SpoolBatch(usage=(), windows=())
        return SpoolBatch(usage=batch.usage, windows=batch.windows[:_WINDOWS_MAX])

    def _acknowledge(self, response: SyncResponse) -> None:
        instances = response.usage_acknowledged.keys() | response.windows_acknowledged.keys()
        for instance in sorted(instances):
            try:
                self._spool.acknowledge(
                    instance,
                    usage_sequence=response.usage_acknowledged.get(instance, 0),
                    window_sequence=response.windows_acknowledged.get(instance, 0),
                )
            except OSError as error:
                _log.warning("usage spool can't be cleared", reason=str(error))

    async def _interruptible(self, request: SyncRequest) -> SyncResponse | None:
        """A long poll; None if news arose here meanwhile, and the connection was given up for it."""
        call = asyncio.create_task(self._client.sync(request))
        news = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait({call, news}, return_when=asyncio.FIRST_COMPLETED)
            return await call if call.done() else None
        finally:
            for task in (call, news):
                task.cancel()
            await asyncio.gather(call, news, return_exceptions=True)

    def _stand(self, refusal: Refusal | None) -> None:
        """Only being replaced or unknown forbids to scale up; any other refusal is as if the plane were away."""
        before = self.standing
        self.standing = refusal if refusal is not None and refusal.rule in _REPLACED else None
        if self.standing is not None and (before is None or before.rule != self.standing.rule):
            _log.error("this agent does not hold its cluster: nothing is started", reason=str(refusal))
            self._on_standing()
        elif self.standing is None and before is not None:
            _log.info("this agent holds the cluster again", before=before.rule)
            self._on_standing()

    async def _under_refusal(self) -> None:
        """Ask rarely; if an operator has put a new token there, enrol anew with it."""
        with contextlib.suppress(ControlError):
            await self._try_new_token()
        await asyncio.sleep(self._timings.slow_sync_s * random.uniform(0.5, 1.0))  # noqa: S311

    async def _try_new_token(self) -> None:
        identity = await self._enrolment.with_new_token(self._household.identity)
        if identity is not None:
            await self._household.take_identity(identity)

    async def _rest_after(self, error: ControlError, failures: int) -> None:
        _log.warning("sync failed", reason=str(error), failures=failures)
        if error.status == 401:
            # Perhaps the cluster was given to an agent with another key: serve on, but start nothing.
            self._stand(_NOT_ENROLLED)
            with contextlib.suppress(ControlError):
                await self._try_new_token()
        if error.status == 413:
            self._usage_max = max(1, self._usage_max // 2)
        own_s = pause_s(
            failures,
            base_s=self._timings.back_off_base_s,
            cap_s=self._timings.back_off_cap_s,
            random=random.random(),  # noqa: S311
        )
        await asyncio.sleep(max(own_s, min(error.retry_after_s or 0.0, 60.0)))

    async def _until_news(self, longest_s: float) -> None:
        if longest_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(longest_s):
                    await self._news.wait()


def _was_heard(request: SyncRequest, response: SyncResponse) -> bool:
    """Whether an answer acknowledges something of each kind that was sent."""
    delta = request.observed
    if delta is not None and response.observed_acknowledged != delta.observed_generation:
        return response.observed_full_wanted and not delta.full
    usage_heard = not request.usage or bool(response.usage_acknowledged)
    windows_heard = not request.windows or bool(response.windows_acknowledged)
    return usage_heard and windows_heard
