"""A fleet with an agent for each cluster that speaks the wire, and helpers to have something placed there."""

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Project
from apps.accounts.services import organization_create, project_create
from apps.agents.services import enrolment_token_create, tables_compile
from apps.api.actors import system_actor
from apps.catalog.models import EngineImage, Model, ModelVersion
from apps.deployments.models import AutoscalingPolicy, Deployment, Revision
from apps.fleet.models import Cluster, GpuPool, GpuType, InstanceType, PoolPrice, Provider, Region
from apps.placements.models import Assignment, PlacementPlan
from controlplane.asgi import application
from workloadplane.protocol import WIRE_VERSION
from workloadplane.protocol.observed import (
    ClusterFacts,
    ColdStart,
    ObservedCondition,
    ObservedDelta,
    ObservedReplica,
    observed_hash,
)
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.sync import (
    EnrolRequest,
    EnrolResponse,
    SyncRequest,
    SyncResponse,
    enrol_signed_bytes,
    sync_signed_bytes,
)
from workloadplane.protocol.tables import TABLE_KINDS, Table, adopt

T = TypeVar("T")
ACTOR = system_actor("tests")


def fleet(organization: str = "acme", clusters: tuple[str, ...] = ("eu-west", "us-east")) -> Project:
    """An organization with a project and these clusters, each in a region of its own with one pool of 8 GPUs."""
    owner = organization_create(actor=ACTOR, name=organization)
    project = project_create(actor=ACTOR, organization_id=owner.pk, name="default")
    provider, _ = Provider.objects.get_or_create(name="aws", kind="aws")
    gpu_type, _ = GpuType.objects.get_or_create(
        name="L4", defaults={"vendor": "nvidia", "memory_gib": 24, "precisions": ["bf16"]}
    )
    instance_type, _ = InstanceType.objects.get_or_create(
        provider=provider, name="g6.xlarge", defaults={"gpu_type": gpu_type, "gpus": 1}
    )
    for index, name in enumerate(clusters):
        region, _ = Region.objects.get_or_create(
            name=f"region-{name}",
            defaults={
                "provider": provider,
                "jurisdiction": name.partition("-")[0],
                "latitude": 50.0 - 10 * index,
                "longitude": -40.0 * index,
            },
        )
        cluster = Cluster.objects.create(organization=owner, region=region, name=name)
        pool = GpuPool.objects.create(
            cluster=cluster,
            instance_type=instance_type,
            procurement="on_demand",
            name="main",
            capacity_instances=8,
        )
        PoolPrice.objects.create(
            pool=pool,
            instance_micro_usd_per_h=800_000,
            effective_from=timezone.now() - timedelta(days=30),
        )
    return project


def cluster_named(project: Project, name: str) -> Cluster:
    return Cluster.objects.get(organization=project.organization, name=name)


def placed(project: Project, name: str, cluster: str, *, compiled: bool = True) -> Assignment:
    """A deployment of one replica, assigned to a cluster's pool."""
    model, _ = Model.objects.get_or_create(project=project, name="tiny-llama")
    version, _ = ModelVersion.objects.get_or_create(
        model=model,
        version="1",
        defaults={
            "digest": "sha256:" + "a" * 64,
            "source_uri": "file:///models/tiny-llama",
            "precision": "bf16",
            "size_bytes": 1000,
            "max_context_tokens": 512,
        },
    )
    image, _ = EngineImage.objects.get_or_create(
        digest="sha256:" + "b" * 64, defaults={"engine": "simulator", "version": "1"}
    )
    deployment = Deployment.objects.create(project=project, name=name)
    AutoscalingPolicy.objects.create(deployment=deployment, min_replicas=1, max_replicas=4)
    revision = Revision.objects.create(
        deployment=deployment, number=1, model_version=version, engine_image=image
    )
    deployment.current_revision = revision
    deployment.save()
    return assigned(revision, cluster, compiled=compiled)


def assigned(revision: Revision, cluster: str, *, compiled: bool = True) -> Assignment:
    """Another assignment, of a revision that exists."""
    organization = revision.deployment.project.organization
    pool = GpuPool.objects.get(cluster__organization=organization, cluster__name=cluster)
    plan = PlacementPlan.objects.create(
        organization=organization,
        plan_generation=PlacementPlan.objects.filter(organization=organization).count() + 1,
        problem={},
        plan={},
        micro_usd_per_h=0,
        solve_s=0.0,
    )
    assignment = Assignment.objects.create(
        deployment=revision.deployment,
        revision=revision,
        pool=pool,
        plan=plan,
        min_replicas=1,
        max_replicas=2,
        gpus_per_replica=1,
    )
    if compiled:
        compile_tables(pool.cluster)
    return assignment


def compile_tables(cluster: Cluster) -> None:
    with transaction.atomic():
        tables_compile(cluster_ids=[cluster.pk])


def token_for(project: Project, cluster: str, **options: Any) -> str:
    return enrolment_token_create(actor=ACTOR, cluster=cluster_named(project, cluster), **options)[1]


def observed_replica(assignment: Assignment, state: str = "ready", **changes: Any) -> ObservedReplica:
    """A replica of an assignment as its agent would report it."""
    created_at = datetime.now(UTC).timestamp() - 60
    replica = ObservedReplica(
        replica_id=str(uuid.uuid4()),
        assignment_id=str(assignment.pk),
        deployment_id=str(assignment.deployment_id),
        revision_id=str(assignment.revision_id),
        revision=assignment.revision.number,
        pool_id=str(assignment.pool_id),
        engine="simulator",
        runtime_ref="1234",
        state=state,
        phase="engine_start" if state == "starting" else None,
        reason="",
        message="",
        created_at=created_at,
        ready_at=created_at + 2.5 if state == "ready" else None,
        stopped_at=None,
        cold_start=ColdStart(weight_load_s=1.5, engine_start_s=1.0),
        restarts=0,
    )
    return msgspec.structs.replace(replica, **changes)


def delta(
    generation: int,
    replicas: dict[str, ObservedReplica],
    *,
    changed: tuple[str, ...] | None = None,
    gone: tuple[str, ...] = (),
    conditions: tuple[ObservedCondition, ...] = (),
    gateway_url: str = "http://127.0.0.1:9000",
    **facts: Any,
) -> ObservedDelta:
    """The change that leaves a cluster with ``replicas``; ``changed`` None = the full state; ``facts``: more."""
    names = tuple(replicas) if changed is None else changed
    return ObservedDelta(
        observed_generation=generation,
        full=changed is None,
        replicas=tuple(replicas[name] for name in names),
        gone=gone,
        conditions=conditions,
        facts=ClusterFacts(
            agent_version="0.1",
            gateway_url=gateway_url,
            engine_substitutions={},
            free_memory_bytes=None,
            held_generations={},
            **facts,
        ),
        state_hash=observed_hash({replica.replica_id: replica for replica in replicas.values()}),
    )


@dataclass
class Agent:
    """Speaks the wire as an agent does; ``instance()`` is another process with the same identity."""

    http: httpx.AsyncClient
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    instance_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    identity: EnrolResponse | None = None
    cluster_epoch: int = 0
    plane_epoch: int = 0
    sequence: int = 0
    tables: dict[str, Table] = field(default_factory=dict)

    def instance(self) -> "Agent":
        return Agent(
            http=self.http,
            key=self.key,
            identity=self.identity,
            cluster_epoch=self.cluster_epoch,
            plane_epoch=self.plane_epoch,
            tables=dict(self.tables),
        )

    def enrol_request(self, token: str, **changes: Any) -> EnrolRequest:
        request = EnrolRequest(
            wire_version=WIRE_VERSION,
            token=token,
            public_key=self.key.public_key().public_bytes_raw(),
            instance_id=self.instance_id,
            gateway_url="http://127.0.0.1:9000",
            agent_version="0.1",
            proof=self.key.sign(enrol_signed_bytes(token)),
        )
        return msgspec.structs.replace(request, **changes)

    async def enrol(self, token: str, **changes: Any) -> httpx.Response:
        body = msgspec.json.encode(self.enrol_request(token, **changes))
        response = await self.http.post("/agent/v1/enrol", content=body)
        if response.status_code == 200:
            self.identity = msgspec.json.decode(response.content, type=EnrolResponse)
            self.cluster_epoch = self.identity.cluster_epoch
            self.plane_epoch = self.identity.plane_epoch
        return response

    def request(self, **changes: Any) -> SyncRequest:
        assert self.identity is not None
        self.sequence += 1
        request = SyncRequest(
            wire_version=WIRE_VERSION,
            cluster_id=self.identity.cluster_id,
            instance_id=self.instance_id,
            cluster_epoch=self.cluster_epoch,
            plane_epoch=self.plane_epoch,
            sequence=self.sequence,
            wait_s=0.0,
            held={kind: table.generation for kind, table in self.tables.items()},
        )
        return msgspec.structs.replace(request, **changes)

    async def post(self, body: bytes, **headers: str) -> httpx.Response:
        """Send these bytes, signed; headers may be replaced."""
        assert self.identity is not None
        signature = base64.b64encode(self.key.sign(sync_signed_bytes(body))).decode()
        sent = {"x-meridian-cluster": self.identity.cluster_id, "x-meridian-signature": signature}
        replaced = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post("/agent/v1/sync", content=body, headers={**sent, **replaced})

    async def sync(self, **changes: Any) -> SyncResponse:
        """One good sync; tables are adopted as an agent adopts them."""
        response = await self.post(msgspec.json.encode(self.request(**changes)))
        assert response.status_code == 200, response.text
        answer = msgspec.json.decode(response.content, type=SyncResponse)
        if answer.refusal is None:
            self.cluster_epoch, self.plane_epoch = answer.cluster_epoch, answer.plane_epoch
            self.adopt(answer)
        return answer

    async def settle(self) -> SyncResponse:
        """The first syncs of an agent that runs nothing: it reports so, and is sent its tables."""
        return await self.sync(observed=delta(1, {}))

    def adopt(self, answer: SyncResponse) -> None:
        assert self.identity is not None
        trusted = {
            key_id: Ed25519PublicKey.from_public_bytes(raw)
            for key_id, raw in self.identity.signing_keys.items()
        }
        for kind in TABLE_KINDS:
            if kind in answer.tables:
                adopted = adopt(
                    self.tables.get(kind),
                    answer.tables[kind],
                    kind=kind,
                    audience=self.identity.cluster_id,
                    trusted=trusted,
                )
                assert not isinstance(adopted, Refusal), adopted
                self.tables[kind] = adopted

    def entries(self, kind: str, type_: type[T]) -> dict[str, T]:
        """A held table's entries, decoded."""
        return {
            key: msgspec.json.decode(entry, type=type_) for key, entry in self.tables[kind].entries.items()
        }

    def header(self, kind: str, type_: type[T]) -> T:
        return msgspec.json.decode(self.tables[kind].contents().header, type=type_)


@asynccontextmanager
async def plane() -> AsyncIterator[httpx.AsyncClient]:
    """The control plane's ASGI application, its connections given back at the end."""
    transport = httpx.ASGITransport(app=application)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
            yield http
    finally:
        await application.close()


def scenario(run: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run a coroutine against the control plane in an event loop of its own."""

    async def main() -> None:
        async with plane() as http:
            await run(http)

    asyncio.run(main())


async def enrolled(http: httpx.AsyncClient, project: Project, cluster: str = "eu-west") -> Agent:
    """An agent that has enrolled for a cluster."""
    agent = Agent(http)
    token = await asyncio.to_thread(_in_thread, token_for, project, cluster)
    response = await agent.enrol(token)
    assert response.status_code == 200, response.text
    return agent


async def meanwhile(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Do something of Django's world while agents wait."""
    return await asyncio.to_thread(_in_thread, function, *args, **kwargs)


def _in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    from django.db import connections

    try:
        return function(*args, **kwargs)
    finally:
        connections.close_all()
