"""A control plane's world in rows: an organization with three connected clusters, a model and engine images."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from apps.accounts.models import Organization, Project
from apps.agents.models import AgentSession, Replica
from apps.api.actors import Actor
from apps.catalog.models import EngineImage, Model, ModelVersion
from apps.fleet.models import (
    Cluster,
    FailureDomain,
    GpuPool,
    GpuType,
    InstanceType,
    PoolPrice,
    Provider,
    Region,
)
from apps.placements.models import Assignment

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AFTER = datetime(2099, 1, 1, tzinfo=UTC)
#: cluster name -> (provider, kind, region, jurisdiction, dollars an hour)
PLACES = {
    "eu-west": ("aws", "aws", "eu-west-1", "eu", 2),
    "us-east": ("gcp", "gcp", "us-east4", "us", 1),
    "ap-northeast": ("azure", "azure", "japaneast", "jp", 3),
}
_ids = count(1)


@dataclass
class FleetWorld:
    """What the tests need to name."""

    organization: Organization
    project: Project
    model: Model
    version: ModelVersion
    image: EngineImage
    instance_type: InstanceType
    clusters: dict[str, Cluster] = field(default_factory=dict)
    pools: dict[str, GpuPool] = field(default_factory=dict)

    @property
    def actor(self) -> Actor:
        """An API key of the project that may do everything a key may."""
        return self.actor_for(self.project)

    def actor_for(self, project: Project) -> Actor:
        return Actor(
            kind="api_key",
            id="key",
            name="test",
            right="operate",
            organization_id=project.organization_id,
            project_id=project.pk,
        )

    def document(self, name: str = "chat", **fields: Any) -> dict[str, Any]:
        """The smallest document that is accepted."""
        return {"name": name, "model": "tiny-llama", "engine": "simulator", **fields}


def fleet_world(name: str = "example", *, instances: int = 4) -> FleetWorld:
    """Three clusters, each connected, with one on-demand pool of single-GPU machines; us-east is cheapest."""
    organization = Organization.objects.create(name=name)
    project = Project.objects.create(organization=organization, name="default")
    gpu_type, _ = GpuType.objects.get_or_create(
        name="H100", defaults={"vendor": "nvidia", "memory_gib": 80, "precisions": ["bf16", "fp8"]}
    )
    model = Model.objects.create(project=project, name="tiny-llama")
    world = FleetWorld(
        organization=organization,
        project=project,
        model=model,
        version=model_version(model, "1"),
        image=engine_image("simulator", "1"),
        instance_type=InstanceType.objects.get_or_create(
            provider=Provider.objects.get_or_create(name="aws", defaults={"kind": "aws"})[0],
            name="h100-1x",
            defaults={"gpu_type": gpu_type, "gpus": 1},
        )[0],
    )
    for cluster_name, place in PLACES.items():
        _cluster(world, cluster_name, *place, instances=instances)
    return world


def _cluster(
    world: FleetWorld,
    name: str,
    provider_name: str,
    kind: str,
    region_name: str,
    jurisdiction: str,
    usd_per_h: int,
    *,
    instances: int,
) -> None:
    provider, _ = Provider.objects.get_or_create(name=provider_name, defaults={"kind": kind})
    region, _ = Region.objects.get_or_create(
        name=region_name,
        defaults={"provider": provider, "jurisdiction": jurisdiction, "latitude": 0, "longitude": 0},
    )
    cluster = Cluster.objects.create(organization=world.organization, region=region, name=name)
    cluster.failure_domains.add(FailureDomain.objects.get_or_create(kind="zone", name=f"{region_name}-a")[0])
    AgentSession.objects.create(cluster=cluster, public_key=b"\x01" * 32, lease_expires_at=LONG_AFTER)
    pool = GpuPool.objects.create(
        cluster=cluster,
        instance_type=world.instance_type,
        procurement="on_demand",
        name="on-demand",
        capacity_instances=instances,
    )
    PoolPrice.objects.create(
        pool=pool, instance_micro_usd_per_h=usd_per_h * 1_000_000, effective_from=LONG_AGO
    )
    world.clusters[name] = cluster
    world.pools[name] = pool


def model_version(model: Model, version: str, **fields) -> ModelVersion:
    values = {
        "digest": f"sha256:{next(_ids):064x}",
        "source_uri": "file:///models/tiny",
        "precision": "bf16",
        "size_bytes": 5_000_000,
        "max_context_tokens": 512,
    }
    return ModelVersion.objects.create(model=model, version=version, **(values | fields))


def engine_image(engine: str, version: str) -> EngineImage:
    return EngineImage.objects.create(engine=engine, version=version, digest=f"sha256:{next(_ids):064x}")


def replica_reported(assignment: Assignment, state: str = "ready") -> Replica:
    """A replica of an assignment, as if its agent had reported it."""
    return Replica.objects.create(
        id=f"00000000-0000-4000-8000-{next(_ids):012x}",
        cluster=assignment.pool.cluster,
        assignment_id=assignment.pk,
        deployment=assignment.deployment,
        revision=assignment.revision,
        pool=assignment.pool,
        engine="simulator",
        runtime_ref="pid:1",
        state=state,
        started_at=LONG_AGO,
        observed=b"{}",
    )


def disconnect(cluster: Cluster) -> None:
    """Let a cluster's lease have ended."""
    AgentSession.objects.filter(cluster=cluster).update(lease_expires_at=LONG_AGO + timedelta(days=1))
