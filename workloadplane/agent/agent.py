"""The agent put together: disk, tables, fleet, gateways, the pass that reconciles them, and the calls home.

Everything runs on one event loop; only the disk is written from worker threads. At start the agent takes
what lies on its disk and serves from it before it has spoken to anyone.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil
import structlog

from workloadplane.agent import AGENT_VERSION
from workloadplane.agent.conductor import Conductor
from workloadplane.agent.control import ControlClient
from workloadplane.agent.disk import AgentIdentity, ObservedFile, StateDir
from workloadplane.agent.enrolment import Enrolment
from workloadplane.agent.fleet import Fleet
from workloadplane.agent.gateways import GatewayHub
from workloadplane.agent.home import Home
from workloadplane.agent.http import http_client
from workloadplane.agent.keeper import Keeper
from workloadplane.agent.log_courier import LogCourier
from workloadplane.agent.notices import NoticeEndpoint, NoticeWatch, sources_of
from workloadplane.agent.observed import ObservedTracker
from workloadplane.agent.record import ReplicaRecord
from workloadplane.agent.tables import Tables
from workloadplane.agent.timings import AgentTimings
from workloadplane.protocol.local import EndpointSet, EngineLoads, Identity, PlaneHeard, TablePush
from workloadplane.protocol.observed import (
    ClusterFacts,
    ObservedCondition,
    ObservedDelta,
    ReplicaLoad,
    ScalingDecision,
)
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.socketpath import place_agent_socket
from workloadplane.protocol.sync import SyncResponse
from workloadplane.protocol.tables import FOR_GATEWAYS, TableKind
from workloadplane.runtimes.base import Runtime

_log = structlog.get_logger(__name__)

#: Between two passes while something drains: its end is partly a matter of time.
_DRAINING_PASS_S = 0.25
_SCALING_KEPT_EVERY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """What the command line says."""

    state_dir: Path
    gateway_state_dir: Path
    control_url: str
    gateway_url: str
    enrolment_token_file: Path
    notice_file: Path
    notice_endpoints: tuple[NoticeEndpoint, ...] = ()
    substitutions: Mapping[str, str] = field(default_factory=dict)


class Agent:
    """One cluster's agent. ``run`` ends only when it is cancelled; replicas go on without it."""

    def __init__(
        self, options: AgentOptions, disk: StateDir, runtime: Runtime, timings: AgentTimings
    ) -> None:
        """``disk`` is locked already; ``runtime`` is open. Raises ValueError if the key file holds no key."""
        self._options = options
        self._runtime = runtime
        self._disk = disk
        self._timings = timings
        self._instance_id = str(uuid.uuid4())
        self._private_key = disk.private_key()
        self._identity: AgentIdentity | None = None
        self._tables = Tables(disk)
        self._fleet = Fleet(
            runtime, substitutions=options.substitutions, timings=timings, on_change=self._on_replica
        )
        self._hub = GatewayHub(
            on_news=self._wake, on_load=self._on_load, on_behind=self._on_behind, on_peers=self._observe
        )
        self._conductor = Conductor(self._fleet, self._hub, disk.read_scaling())
        self._scaling_kept_since = time.monotonic()
        self._metadata = http_client()
        self._notices = NoticeWatch(
            sources_of(options.notice_file, options.notice_endpoints, self._metadata),
            poll_s=timings.notice_poll_s,
            on_change=self._on_notices,
        )
        self._tracker = ObservedTracker(0)
        self._conditions: tuple[ObservedCondition, ...] = ()
        self._endpoints = EndpointSet(endpoint_generation=0, endpoints=())
        self._keeper = Keeper(disk, self._tables, on_change=self._observe)
        self._home: Home | None = None
        self._courier: LogCourier | None = None
        self._pass_due = asyncio.Event()

    async def run(self) -> None:
        """Serve from the disk, then enrol and sync. Raises OSError if the state directory can't be used."""
        client = ControlClient(self._options.control_url, self._private_key)
        try:
            await self._restore()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on())
                group.create_task(self._keeper.run())
                group.create_task(self._notices.run())
                group.create_task(self._call_home(client))
        finally:
            self._fleet.close()
            await self._fleet.closed()
            await self._hub.close()
            await client.close()
            await self._metadata.aclose()
            self._keeper.keep_scaling(self._conductor.scaling_memory())
            self._keeper.flush()

    # What the loop of calls home asks for (``home.Household``).

    @property
    def identity(self) -> AgentIdentity:
        """Who this agent is. Raises RuntimeError before it is enrolled."""
        if self._identity is None:
            raise RuntimeError("not enrolled")
        return self._identity

    def held(self) -> dict[str, int]:
        """Table kind -> generation to ask newer ones of."""
        return self._tables.wanted_from

    def next_delta(self) -> ObservedDelta | None:
        """The observed state as far as it is news."""
        return self._tracker.next_delta()

    def loads(self) -> tuple[ReplicaLoad, ...]:
        """The replicas' loads as last read."""
        found = (record.load() for record in self._fleet.records.values())
        return tuple(load for load in found if load is not None)

    def decisions(self) -> tuple[ScalingDecision, ...]:
        """Those of scaling that have not been delivered, the oldest first."""
        return self._conductor.scaling.decisions()

    def decisions_heard(self, decisions: tuple[ScalingDecision, ...]) -> None:
        """These have been."""
        self._conductor.scaling.forget_decisions(decisions)

    def follows_logs(self) -> bool:
        """Whether logs are being delivered."""
        return self._courier is not None and self._courier.is_following

    async def take(self, response: SyncResponse) -> bool:
        """Adopt what an answer brought; whether a table changed."""
        if self._courier is not None:
            self._courier.want(response.logs_wanted)
        if response.refusal is None:
            acknowledged = response.observed_acknowledged
            self._tracker.acknowledge(acknowledged, full_wanted=response.observed_full_wanted)
            self._tracker.jump_over(acknowledged)
        adoption = await asyncio.to_thread(self._tables.adopt_updates, response.tables, self.identity)
        for refusal in adoption.refusals:
            _log.warning("table not taken", reason=str(refusal))
        if self._tables.has_unkept:
            self._keeper.keep_tables()
        await self._take_epochs(response, keys_changed="keyset" in adoption.changed)
        for kind in adoption.changed:
            if kind in FOR_GATEWAYS:
                self._publish_table(kind)
        if adoption.changed:
            self._observe()
            self._wake()
        return bool(adoption.changed)

    async def take_identity(self, identity: AgentIdentity) -> None:
        """Become who the control plane now says we are. Another cluster's tables are dropped."""
        if self._identity is not None and identity.cluster_id != self._identity.cluster_id:
            _log.warning("this agent now belongs to another cluster", cluster=identity.cluster_name)
            await asyncio.to_thread(self._tables.forget)
        await self._keep_identity(identity)

    async def _keep_identity(self, identity: AgentIdentity) -> None:
        self._identity = identity
        self._keeper.keep_identity(identity)
        await asyncio.to_thread(self._keeper.flush)
        self._publish_identity()

    async def _take_epochs(self, response: SyncResponse, *, keys_changed: bool) -> None:
        """Epochs only rise; the key set in force says whose signatures count from now on.

        The plane's epoch is believed of a table alone, where it is under the signature: a number in an answer's body
        could have this agent refuse every table from then on. The cluster's own epoch stands nowhere else.
        """
        before = self.identity
        after = msgspec.structs.replace(
            before,
            plane_epoch=max(before.plane_epoch, self._tables.plane_epoch),
            cluster_epoch=(
                before.cluster_epoch
                if response.refusal is not None
                else max(before.cluster_epoch, response.cluster_epoch)
            ),
            signing_keys=(self._tables.signing_keys() or before.signing_keys)
            if keys_changed
            else before.signing_keys,
        )
        if after != before:
            await self._keep_identity(after)

    async def _call_home(self, client: ControlClient) -> None:
        enrolment = Enrolment(
            client,
            self._private_key,
            token_file=self._options.enrolment_token_file,
            instance_id=self._instance_id,
            gateway_url=self._options.gateway_url,
            timings=self._timings,
        )
        if self._identity is None:
            await self._keep_identity(await enrolment.until_enrolled())
        self._courier = LogCourier(
            client, self._runtime, identity=lambda: self.identity, instance_id=self._instance_id
        )
        self._home = Home(
            client,
            self,
            enrolment,
            instance_id=self._instance_id,
            spool_dir=self._options.gateway_state_dir / "spool",
            timings=self._timings,
            on_standing=self._wake,
            on_heard=self._on_heard,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self._courier.run())
            group.create_task(self._home.run())

    # What lies on the disk.

    async def _restore(self) -> None:
        self._identity = self._disk.read_identity()
        if self._identity is not None:
            await asyncio.to_thread(self._tables.load, self._identity)
        endpoints = self._disk.read_endpoints()
        if endpoints is not None:
            self._endpoints = endpoints
        observed = self._disk.read_observed()
        if observed is not None:
            self._tracker = ObservedTracker(observed.observed_generation)
        remembered = observed.replicas if observed is not None else ()
        await self._fleet.adopt(
            {replica.replica_id: replica for replica in remembered},
            {entry.replica_id for entry in self._endpoints.endpoints if entry.state == "ready"},
        )
        self._publish_endpoints(always=True)
        self._publish_identity()
        for kind in FOR_GATEWAYS:
            self._publish_table(kind)
        socket_path = place_agent_socket(self._options.state_dir)
        if isinstance(socket_path, Refusal):
            raise OSError(str(socket_path))
        await self._hub.open(socket_path)
        await self._notices.look()  # before anything is started where it could not stay
        self._observe()
        self._wake()

    # The gateways.

    def _publish_endpoints(self, *, always: bool = False) -> None:
        """Tell gateways which replicas they may use, if that has changed."""
        found = (record.endpoint() for record in self._fleet.records.values())
        endpoints = tuple(endpoint for endpoint in found if endpoint is not None)
        if endpoints == self._endpoints.endpoints and not always:
            return
        generation = self._endpoints.endpoint_generation + 1
        self._endpoints = EndpointSet(endpoint_generation=generation, endpoints=endpoints)
        for record in self._fleet.records.values():
            if record.state == "draining" and record.drain_generation is None:
                record.drain_generation = generation
        self._hub.publish(self._endpoints)
        self._keeper.keep_endpoints(self._endpoints)

    def _publish_engine_loads(self) -> None:
        found = (record.engine_load() for record in self._fleet.records.values())
        loads = tuple(load for load in found if load is not None)
        if loads:
            self._hub.publish(EngineLoads(loads=loads))

    def _publish_identity(self) -> None:
        identity = self._identity
        if identity is not None:
            self._hub.publish(
                Identity(
                    cluster_id=identity.cluster_id,
                    cluster_name=identity.cluster_name,
                    signing_keys=identity.signing_keys,
                )
            )

    def _publish_table(self, kind: TableKind) -> None:
        table = self._tables.held(kind)
        if table is not None:
            self._hub.publish(TablePush(kind=kind, table=table))

    def _on_heard(self, at_monotonic_s: float) -> None:
        held = self._tables.held_generations.get("routing", 0)
        self._hub.publish(PlaneHeard(at_monotonic_s=at_monotonic_s, routing_generation=held))

    def _on_behind(self, generation: int) -> None:
        """A gateway holds later endpoints than this agent remembers having sent: go on above those."""
        self._endpoints = EndpointSet(endpoint_generation=generation, endpoints=())
        for record in self._fleet.records.values():
            record.drain_generation = None
        self._publish_endpoints(always=True)

    def _on_load(self) -> None:
        self._fleet.suspect(self._hub.avoided())
        desired = self._tables.desired
        if desired is not None and self._conductor.observe_load(desired):
            self._wake()

    # Replicas.

    def _on_replica(self, _record: ReplicaRecord) -> None:
        self._publish_endpoints()
        self._observe()
        self._wake()

    def _on_notices(self) -> None:
        self._observe()
        self._wake()

    def _wake(self) -> None:
        self._pass_due.set()

    async def _pass_on(self) -> None:
        while True:
            draining = any(record.state == "draining" for record in self._fleet.records.values())
            with contextlib.suppress(TimeoutError):
                pause_s = _DRAINING_PASS_S if draining else self._timings.reconcile_s
                async with asyncio.timeout(pause_s):
                    await self._pass_due.wait()
            self._pass_due.clear()
            desired = self._tables.desired
            if desired is not None:
                may_start = self._home.standing if self._home is not None else None
                self._conditions = self._conductor.run_pass(
                    desired, self._notices.departures, may_start=may_start
                )
            self._fleet.forget_ended(self._is_reported)
            self._observe()
            self._keep_scaling()
            self._publish_engine_loads()

    def _keep_scaling(self) -> None:
        """Now and then: what the last seconds brought may be missing after a crash, and is soon seen again."""
        now = time.monotonic()
        if now - self._scaling_kept_since >= _SCALING_KEPT_EVERY_S:
            self._scaling_kept_since = now
            self._keeper.keep_scaling(self._conductor.scaling_memory())
        if self._conductor.scaling.decisions() and self._home is not None:
            self._home.tell()

    def _is_reported(self, replica_id: str) -> bool:
        return self._tracker.is_reported(self._fleet.records[replica_id].observed())

    def _observe(self) -> None:
        """Note the present state; if it has changed, keep it and tell it."""
        facts = ClusterFacts(
            agent_version=AGENT_VERSION,
            gateway_url=self._options.gateway_url,
            engine_substitutions=dict(self._options.substitutions),
            free_memory_bytes=psutil.virtual_memory().available,
            held_generations=self._tables.held_generations,
            gateway_generations={"routing": self._hub.routing_in_force()},
            gateways_connected=self._hub.present(),
            peers=self._hub.peers(),
            notices=self._notices.notices,
            nodes=self._conductor.nodes(),
            state_unkept=self._keeper.unkept,
        )
        replicas = tuple(record.observed() for record in self._fleet.records.values())
        if not self._tracker.update(replicas, self._conditions, facts):
            return
        self._keeper.keep_observed(
            ObservedFile(observed_generation=self._tracker.generation, replicas=replicas)
        )
        if self._home is not None:
            self._home.tell()
