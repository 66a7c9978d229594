"""A made-up problem as rows of a database, so that the control plane's own road can be measured with it.

Needs Django to be set up; imports of the applications therefore stand inside of functions.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from controlplane.placement import PlacementProblem, WantedDeployment

if TYPE_CHECKING:
    from apps.accounts.models import Organization, Project
    from apps.catalog.models import EngineImage, ModelVersion
    from apps.fleet.models import Cluster, GpuPool, InstanceType, Region

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AFTER = datetime(2099, 1, 1, tzinfo=UTC)
KINDS = ("aws", "gcp", "azure")


@dataclass(slots=True)
class Stored:
    """The rows by the ids that they have in the problem."""

    organization: "Organization"
    regions: "Mapping[str, Region]"
    clusters: "Mapping[str, Cluster]"
    types: "Mapping[str, InstanceType]"
    pools: "Mapping[str, GpuPool]"
    projects: "Mapping[str, Project]"
    versions: "Mapping[str, ModelVersion]"
    images: "Mapping[str, EngineImage]"


def store(problem: PlacementProblem) -> Stored:
    """Write everything that the problem says, but for what runs."""
    from apps.accounts.models import Organization, Project

    organization = Organization.objects.create(name="bench")
    regions = _regions(problem)
    clusters = _clusters(problem, organization, regions)
    types = _types(problem)
    budgets = {row.project_id: row.micro_usd_per_h for row in problem.budgets}
    projects = {
        name: Project(organization=organization, name=name, budget_micro_usd_per_h=budgets.get(name))
        for name in sorted({row.project_id for row in problem.deployments})
    }
    Project.objects.bulk_create(projects.values())
    stored = Stored(
        organization=organization,
        regions=regions,
        clusters=clusters,
        types=types,
        pools=_pools(problem, clusters, types),
        projects=projects,
        versions=_versions(problem, next(iter(projects.values()))),
        images=_images(problem),
    )
    _measured(problem, stored)
    store_deployments(problem, stored, problem.deployments)
    return stored


def store_deployments(
    problem: PlacementProblem, stored: Stored, wanted: tuple[WantedDeployment, ...], suffix: str = ""
) -> None:
    """Write these deployments with their demand; ``suffix`` makes their names new ones."""
    from apps.deployments.models import (
        AutoscalingPolicy,
        ConditionType,
        Deployment,
        DeploymentCondition,
        Revision,
    )
    from apps.placements.models import DeploymentDemand

    rows = {row.deployment_id: _deployment(row, stored, suffix) for row in wanted}
    Deployment.objects.bulk_create(rows.values())
    revisions = [
        Revision(
            deployment=rows[row.deployment_id],
            number=row.revision,
            model_version=stored.versions[row.model_version_id],
            engine_image=stored.images[row.engine],
        )
        for row in wanted
    ]
    Revision.objects.bulk_create(revisions)
    for row, revision in zip(wanted, revisions, strict=True):
        rows[row.deployment_id].current_revision = revision
    Deployment.objects.bulk_update(rows.values(), ["current_revision"])
    AutoscalingPolicy.objects.bulk_create(
        AutoscalingPolicy(
            deployment=rows[row.deployment_id],
            min_replicas=row.min_replicas,
            max_replicas=row.max_replicas,
            concurrency_target=row.concurrency_target,
        )
        for row in wanted
    )
    DeploymentCondition.objects.bulk_create(
        DeploymentCondition(
            deployment=row,
            type=ConditionType.ACCEPTED,
            status=True,
            reason="Valid",
            message="",
            observed_generation=1,
        )
        for row in rows.values()
    )
    DeploymentDemand.objects.bulk_create(
        DeploymentDemand(
            deployment=rows[row.deployment_id],
            origin=stored.regions[row.origin_region],
            known_since=LONG_AGO,
            requests_per_s_p50=row.requests_per_s_p50,
            requests_per_s_p95=row.requests_per_s_p95,
            tokens_per_s_p50=min(row.tokens_per_s_p50, row.tokens_per_s_p95),
            tokens_per_s_p95=row.tokens_per_s_p95,
        )
        for row in problem.demands
        if row.deployment_id in rows
    )


def run_all(stored: Stored) -> None:
    """Let agents have started whatever is promised, and everybody know it."""
    from django.utils import timezone

    from apps.agents.models import Replica
    from apps.deployments.services import deployment_observe
    from apps.placements.models import Assignment

    live = Assignment.objects.filter(ended_at=None, draining=False).select_related(
        "pool", "revision__engine_image"
    )
    held = set(Replica.objects.filter(gone_at=None).values_list("assignment_id", flat=True))
    Replica.objects.filter(gone_at=None).exclude(assignment_id__in=live.values("pk")).update(
        state="stopped", gone_at=timezone.now()
    )
    missing = [row for row in live if row.pk not in held]
    Replica.objects.bulk_create(
        Replica(
            id=uuid.uuid4(),
            cluster_id=row.pool.cluster_id,
            assignment_id=row.pk,
            deployment_id=row.deployment_id,
            revision=row.revision,
            pool=row.pool,
            engine=row.revision.engine_image.engine,
            runtime_ref="pid:1",
            state="ready",
            started_at=LONG_AGO,
            observed=b"{}",
        )
        for row in missing
        for _ in range(row.min_replicas)
    )
    for _ in range(3):
        deployment_observe(deployment_ids=sorted({row.deployment_id for row in live}))


def _regions(problem: PlacementProblem) -> "dict[str, Region]":
    """Regions of clients have no provider in the problem; one of their own stands for all."""
    from apps.fleet.models import NetworkPrice, Provider, Region, RegionLatency

    providers = {
        name: Provider(name=name, kind=name if name in KINDS else "onprem")
        for name in ("elsewhere", *sorted({row.provider for row in problem.clusters}))
    }
    Provider.objects.bulk_create(providers.values())
    own = {row.region: row for row in problem.clusters}
    names = {row.origin_region for row in problem.latencies} | own.keys()
    regions = {
        name: Region(
            name=name,
            provider=providers[own[name].provider if name in own else "elsewhere"],
            jurisdiction=own[name].jurisdiction if name in own else "us",
            latitude=0,
            longitude=0,
        )
        for name in sorted(names | {row.origin_region for row in problem.demands})
    }
    Region.objects.bulk_create(regions.values())
    RegionLatency.objects.bulk_create(
        RegionLatency(origin=regions[row.origin_region], target=regions[row.target_region], rtt_ms=row.rtt_ms)
        for row in problem.latencies
    )
    NetworkPrice.objects.bulk_create(
        NetworkPrice(
            origin=regions[row.origin_region],
            target=regions[row.target_region],
            micro_usd_per_gib=row.micro_usd_per_gib,
        )
        for row in problem.network_prices
    )
    return regions


def _clusters(
    problem: PlacementProblem, organization: "Organization", regions: "Mapping[str, Region]"
) -> "dict[str, Cluster]":
    from apps.agents.models import AgentSession
    from apps.fleet.models import Cluster, FailureDomain

    clusters = {}
    for row in problem.clusters:
        cluster = Cluster.objects.create(
            organization=organization,
            region=regions[row.region],
            name=row.name,
            gateway_url=f"http://{row.name}.example",
        )
        for zone in row.domains("zone"):
            cluster.failure_domains.add(FailureDomain.objects.get_or_create(kind="zone", name=zone)[0])
        AgentSession.objects.create(cluster=cluster, public_key=b"\x01" * 32, lease_expires_at=LONG_AFTER)
        clusters[row.cluster_id] = cluster
    return clusters


def _types(problem: PlacementProblem) -> "dict[str, InstanceType]":
    from apps.fleet.models import GpuType, InstanceType, Provider

    providers = {row.name: row for row in Provider.objects.all()}
    gpus: dict[str, GpuType] = {}
    types: dict[str, InstanceType] = {}
    for pool in problem.pools:
        if pool.gpu_type not in gpus:
            gpus[pool.gpu_type] = GpuType.objects.create(
                name=pool.gpu_type,
                vendor=pool.gpu_vendor,
                memory_gib=pool.gpu_memory_gib,
                precisions=list(pool.precisions),
            )
        if pool.instance_type_id not in types:
            types[pool.instance_type_id] = InstanceType.objects.create(
                provider=providers[problem.cluster_by_id[pool.cluster_id].provider],
                name=pool.instance_type,
                gpu_type=gpus[pool.gpu_type],
                gpus=pool.gpus_per_instance,
            )
    return types


def _pools(
    problem: PlacementProblem, clusters: "Mapping[str, Cluster]", types: "Mapping[str, InstanceType]"
) -> "dict[str, GpuPool]":
    from apps.fleet.models import GpuPool, PoolPrice, Reservation

    pools = {
        row.pool_id: GpuPool(
            cluster=clusters[row.cluster_id],
            instance_type=types[row.instance_type_id],
            procurement=row.procurement,
            name=row.name.lower().replace(".", "-").replace("_", "-"),
            capacity_instances=row.capacity_instances,
            hazard_per_h=row.hazard_per_h,
            obtainability=row.obtainability,
        )
        for row in problem.pools
    }
    GpuPool.objects.bulk_create(pools.values())
    PoolPrice.objects.bulk_create(
        PoolPrice(
            pool=pools[row.pool_id],
            instance_micro_usd_per_h=row.instance_micro_usd_per_h or 0,
            effective_from=LONG_AGO,
        )
        for row in problem.pools
    )
    Reservation.objects.bulk_create(
        Reservation(
            pool=pools[row.pool_id],
            instances=row.instances,
            instance_micro_usd_per_h=row.instance_micro_usd_per_h,
            starts_at=LONG_AGO,
            ends_at=LONG_AFTER,
        )
        for row in problem.reservations
    )
    return pools


def _versions(problem: PlacementProblem, project: "Project") -> "dict[str, ModelVersion]":
    from apps.catalog.models import Model, ModelVersion

    model = Model.objects.create(project=project, name="bench-model")
    by_id = {row.model_version_id: row for row in problem.deployments}
    versions = {
        version_id: ModelVersion(
            model=model,
            version=version_id,
            digest=f"sha256:{number:064x}",
            source_uri="file:///models/bench",
            precision=row.precision,
            size_bytes=row.weights_bytes,
            max_context_tokens=4096,
            gpus_per_replica=row.gpus_per_replica,
        )
        for number, (version_id, row) in enumerate(by_id.items())
    }
    ModelVersion.objects.bulk_create(versions.values())
    return versions


def _images(problem: PlacementProblem) -> "dict[str, EngineImage]":
    from apps.catalog.models import EngineImage

    return {
        engine: EngineImage.objects.create(engine=engine, version="1", digest=f"sha256:{number:064x}")
        for number, engine in enumerate(sorted({row.engine for row in problem.deployments}))
    }


def _measured(problem: PlacementProblem, stored: Stored) -> None:
    """Profiles of what is deployed."""
    from apps.catalog.models import PerformanceProfile

    PerformanceProfile.objects.bulk_create(
        PerformanceProfile(
            model_version=stored.versions[row.model_version_id],
            instance_type=stored.types[row.instance_type_id],
            tensor_parallel=row.tensor_parallel,
            requests_per_s=row.requests_per_s,
            tokens_per_s=row.tokens_per_s,
            concurrency=row.concurrency,
            gpu_procurement_s=row.gpu_procurement_s,
            image_pull_s=row.image_pull_s,
            weight_load_s=row.weight_load_s,
            engine_start_s=row.engine_start_s,
        )
        for row in problem.profiles
        if row.model_version_id in stored.versions and row.instance_type_id in stored.types
    )


def _deployment(row: WantedDeployment, stored: Stored, suffix: str) -> Any:
    from apps.deployments.models import Deployment

    return Deployment(
        project=stored.projects[row.project_id],
        name=row.name.replace(".", "-") + suffix,
        posture=row.posture,
        survivability=row.survivability,
        residency=list(row.residency),
        providers_denied=list(row.providers_denied),
        priority=row.priority,
        slo_ttft_s_p95=row.slo.ttft_s_p95,
        created_at=datetime.fromtimestamp(row.created_at_s, tz=UTC) + timedelta(days=bool(suffix)),
    )
