"""A small world for the console's tests, written as rows: two projects, three regions, a deployment in each mood."""

import math
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from apps.accounts.models import ApiKey, Membership, Organization, Project, Role, User
from apps.agents.models import AgentSession, Replica, ReplicaInterval
from apps.api.models import AuditEvent
from apps.catalog.models import Adapter, EngineImage, Model, ModelVersion
from apps.deployments.models import AutoscalingPolicy, Deployment, DeploymentCondition, Revision
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
from apps.placements.models import Assignment, PlacementPlan
from apps.placements.services import placement_load
from apps.telemetry.models import Event, MetricWindow
from controlplane.placement import plan_encode, problem_encode, solve
from workloadplane.protocol.usage import LATENCY_BUCKETS_S

PASSWORD = "correct horse battery staple"
REGIONS = (
    ("eu-west", "eu-west-1", "aws", "eu", 53.4, -6.3),
    ("us-east", "us-east4", "gcp", "us", 39.0, -77.5),
    ("ap-northeast", "japaneast", "azure", "jp", 35.7, 139.7),
)
PRICES_USD_PER_H = {"reserved": 39.3, "on_demand": 98.3, "spot": 31.8}


@dataclass
class World:
    """What the tests speak of."""

    organization: Organization
    project: Project
    other_project: Project
    admin: User
    viewer: User
    stranger: User
    clusters: dict[str, Cluster]
    chat: Deployment
    stuck: Deployment
    foreign: Deployment
    plan: PlacementPlan


def world_make() -> World:
    """Rows as the control plane would have left them after a few minutes of traffic."""
    now = timezone.now()
    organization = Organization.objects.create(name="example")
    project = Project.objects.create(organization=organization, name="default")
    foreign_organization = Organization.objects.create(name="elsewhere")
    other_project = Project.objects.create(organization=foreign_organization, name="secret")
    admin = User.objects.create_superuser("admin", password=PASSWORD)
    viewer = User.objects.create_user("viewer", password=PASSWORD)
    stranger = User.objects.create_user("stranger", password=PASSWORD)
    Membership.objects.create(organization=organization, user=viewer, role=Role.VIEWER)
    Membership.objects.create(organization=organization, user=admin, role=Role.OWNER)
    Membership.objects.create(organization=foreign_organization, user=stranger, role=Role.OWNER)
    clusters = _fleet(organization, now)
    version, other_version = _model(project), _model(other_project)
    image = EngineImage.objects.create(engine="vllm", version="0.32.0", digest="sha256:" + "a" * 64)
    EngineImage.objects.create(engine="simulator", version="1", digest="sha256:" + "b" * 64)
    chat = _deployment(project, "chat", version, image, residency=["eu", "us"], slo_ttft_s_p95=1.0)
    stuck = _deployment(project, "stuck", version, image, residency=["jp"])
    foreign = _deployment(other_project, "foreign", other_version, image)
    plan = PlacementPlan.objects.create(
        organization=organization,
        plan_generation=1,
        problem={},
        plan={},
        micro_usd_per_h=51_200_000,
        solve_s=0.04,
    )
    _conditions(chat, stuck)
    _replicas(chat, clusters, plan, now)
    _traffic(chat, clusters, now)
    _history(organization, project, chat, clusters)
    _solve(plan, now)
    ApiKey.objects.create(
        project=project,
        name="laptop",
        prefix="mrd_1a2b3c4d",
        sha256=b"\x01" * 32,
        scopes=["inference", "read"],
        created_by=admin,
    )
    return World(
        organization, project, other_project, admin, viewer, stranger, clusters, chat, stuck, foreign, plan
    )


def world_double(world: World) -> None:
    """More of everything that pages list."""
    revision = world.chat.current_revision
    assert revision is not None
    copy = _deployment(world.project, "copy", revision.model_version, revision.engine_image)
    DeploymentCondition.objects.create(
        deployment=copy, type="Ready", status=False, reason="Starting", message="", observed_generation=1
    )
    now = timezone.now()
    for index, (name, region) in enumerate(world.clusters.items()):
        cluster = Cluster.objects.create(
            organization=world.organization, region=region.region, name=f"{name}-copy"
        )
        machine = InstanceType.objects.get(provider=region.region.provider)
        GpuPool.objects.create(
            cluster=cluster, instance_type=machine, procurement="spot", name="p", capacity_instances=index
        )
    _replicas(world.chat, world.clusters, world.plan, now)
    _history(world.organization, world.project, world.chat, world.clusters)


def _solve(plan: PlacementPlan, now: datetime) -> None:
    """The plan as the solver makes it for this world."""
    problem = placement_load(organization_id=plan.organization_id, now=now)
    solved = solve(problem)
    plan.problem, plan.plan = problem_encode(problem), plan_encode(solved)
    plan.micro_usd_per_h = solved.micro_usd_per_h
    plan.save()


def _fleet(organization: Organization, now: datetime) -> dict[str, Cluster]:
    gpu = GpuType.objects.create(name="H100", vendor="nvidia", memory_gib=80, precisions=["bf16", "fp8"])
    clusters = {}
    for index, (name, region_name, kind, jurisdiction, latitude, longitude) in enumerate(REGIONS):
        provider = Provider.objects.create(name=kind, kind=kind)
        region = Region.objects.create(
            provider=provider,
            name=region_name,
            jurisdiction=jurisdiction,
            latitude=latitude,
            longitude=longitude,
        )
        cluster = Cluster.objects.create(
            organization=organization,
            region=region,
            name=name,
            gateway_url=f"http://127.0.0.1:{4001 + index}",
        )
        cluster.failure_domains.add(FailureDomain.objects.create(kind="region", name=region_name))
        machine = InstanceType.objects.create(provider=provider, name=f"{kind}-8xh100", gpu_type=gpu, gpus=8)
        for procurement, usd_per_h in PRICES_USD_PER_H.items():
            pool = GpuPool.objects.create(
                cluster=cluster,
                instance_type=machine,
                procurement=procurement,
                name=f"h100-{procurement.replace('_', '-')}",
                capacity_instances=2,
                hazard_per_h=0.05 if procurement == "spot" else 0.0,
            )
            PoolPrice.objects.create(
                pool=pool,
                instance_micro_usd_per_h=int(usd_per_h * 1e6),
                effective_from=now - timedelta(days=1),
            )
        clusters[name] = cluster
    for name, heard, lease in (("eu-west", 1, 3600), ("us-east", 2, 3600), ("ap-northeast", 95, -80)):
        AgentSession.objects.create(
            cluster=clusters[name],
            public_key=bytes(32),
            instance_id=str(uuid.uuid4()),
            last_sync_at=now - timedelta(seconds=heard),
            lease_expires_at=now + timedelta(seconds=lease),
            facts={
                "agent_version": "0.1.0",
                "free_memory_bytes": 9 * 2**30,
                "engine_substitutions": {"vllm": "simulator"} if name == "us-east" else {},
                "held_generations": {"desired": 4, "routing": 6, "keyset": 2},
            },
        )
    return clusters


def _model(project: Project) -> ModelVersion:
    model = Model.objects.create(project=project, name="tiny-llama")
    version = ModelVersion.objects.create(
        model=model,
        version="1",
        digest="sha256:" + "c" * 64,
        source_uri="file:///models/tiny-llama",
        precision="bf16",
        size_bytes=4_300_000,
        max_context_tokens=512,
    )
    Adapter.objects.create(
        model_version=version,
        name="french",
        digest="sha256:" + "e" * 64,
        source_uri="file:///adapters/french",
        rank=8,
    )
    return version


def _deployment(
    project: Project, name: str, version: ModelVersion, image: EngineImage, **more: Any
) -> Deployment:
    deployment = Deployment.objects.create(project=project, name=name, **more)
    AutoscalingPolicy.objects.create(deployment=deployment, min_replicas=2, max_replicas=6)
    for number in (1, 2):
        revision = Revision.objects.create(
            deployment=deployment, number=number, model_version=version, engine_image=image
        )
    deployment.current_revision = revision
    deployment.save(update_fields=["current_revision"])
    return deployment


def _conditions(chat: Deployment, stuck: Deployment) -> None:
    refusal = {
        "rule": "pool_capacity",
        "subject": "stuck",
        "value": "2 replicas",
        "remedy": "free or add 2 GPUs in jurisdiction jp",
    }
    for deployment, kind, status, reason, message in (
        (chat, "Accepted", True, "Valid", "the document is acceptable"),
        (chat, "Placed", True, "Placed", "2 replicas on 2 pools"),
        (chat, "Progressing", True, "Starting", "1 of 3 replicas is starting"),
        (chat, "Ready", True, "EnoughReady", "2 of at least 2 replicas are ready"),
        (chat, "Degraded", False, "AsWanted", "nothing is missing"),
        (stuck, "Accepted", True, "Valid", "the document is acceptable"),
        (stuck, "Placed", False, "NoPoolFits", "no pool in jurisdiction jp has room for 2 replicas"),
    ):
        DeploymentCondition.objects.create(
            deployment=deployment,
            type=kind,
            status=status,
            reason=reason,
            message=message,
            observed_generation=1,
            refusals=[refusal] if reason == "NoPoolFits" else [],
        )


def _replicas(chat: Deployment, clusters: dict[str, Cluster], plan: PlacementPlan, now: datetime) -> None:
    revision = chat.current_revision
    assert revision is not None
    for name, procurement, engine, state, phases in (
        ("eu-west", "reserved", "vllm", "ready", (None, None, 3.1, 38.4)),
        ("us-east", "spot", "simulator", "ready", (0.4, 1.2, 0.9, 0.6)),
        ("us-east", "on_demand", "simulator", "starting", (0.5, None, None, None)),
    ):
        pool = GpuPool.objects.get(cluster=clusters[name], procurement=procurement)
        assignment, _ = Assignment.objects.get_or_create(
            deployment=chat,
            revision=revision,
            pool=pool,
            defaults={"plan": plan, "min_replicas": 1, "max_replicas": 2, "gpus_per_replica": 1},
        )
        started_at = now - timedelta(minutes=12)
        replica = Replica.objects.create(
            id=uuid.uuid4(),
            cluster=clusters[name],
            assignment_id=assignment.pk,
            deployment=chat,
            revision=revision,
            pool=pool,
            engine=engine,
            runtime_ref="process:1",
            state=state,
            phase="image_pull" if state == "starting" else None,
            gpu_procurement_s=phases[0],
            image_pull_s=phases[1],
            weight_load_s=phases[2],
            engine_start_s=phases[3],
            started_at=started_at,
            ready_at=started_at + timedelta(seconds=45) if state == "ready" else None,
            observed=b"",
            load={"running": 3, "waiting": 0} if state == "ready" else {},
        )
        ReplicaInterval.objects.create(
            replica_id=replica.pk,
            deployment=chat,
            revision=revision,
            pool=pool,
            gpus=1,
            started_at=started_at,
        )


def _traffic(chat: Deployment, clusters: dict[str, Cluster], now: datetime) -> None:
    assert chat.current_revision_id is not None
    windows = []
    for step in range(170):
        started_at = now - timedelta(seconds=5 * (step + 1))
        requests = int(40 + 25 * math.sin(step / 14))
        windows.append(
            MetricWindow(
                gateway_instance="gateway-1",
                sequence=1000 - step,
                cluster_id=clusters["eu-west"].pk,
                deployment_id=chat.pk,
                revision_id=chat.current_revision_id,
                started_at=started_at,
                ended_at=started_at + timedelta(seconds=5),
                requests=requests,
                errors=1 if step % 40 == 0 else 0,
                input_tokens=requests * 90,
                output_tokens=requests * 60,
                in_flight_max=9,
                waiting_max=0,
                ttft_counts=_histogram(0.18 + 0.05 * math.sin(step / 9), requests),
                ttft_sum_s=0.2 * requests,
                inter_token_latency_counts=_histogram(0.021, requests * 60),
                inter_token_latency_sum_s=0.021 * requests * 60,
                duration_counts=_histogram(1.6, requests),
                duration_sum_s=1.6 * requests,
            )
        )
    MetricWindow.objects.bulk_create(windows)


def _histogram(center_s: float, count: int) -> list[int]:
    counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
    middle = next(i for i, bound in enumerate(LATENCY_BUCKETS_S) if bound >= center_s)
    for offset, share in ((-1, 0.2), (0, 0.5), (1, 0.2), (2, 0.1)):
        counts[middle + offset] += round(count * share)
    return counts


def _history(
    organization: Organization, project: Project, chat: Deployment, clusters: dict[str, Cluster]
) -> None:
    for reason, severity, message, cluster in (
        ("DeploymentCreated", "info", "chat was created by user:admin", None),
        ("Placed", "info", "2 replicas on 2 pools, 51.20 USD/h", None),
        ("ReplicaReady", "info", "a replica on eu-west/h100-reserved is ready after 41 s", "eu-west"),
        ("AgentDisconnected", "warning", "the agent of ap-northeast was last heard 95 s ago", "ap-northeast"),
    ):
        Event.objects.create(
            organization=organization,
            project=None if cluster == "ap-northeast" else project,
            deployment_id=None if cluster == "ap-northeast" else chat.pk,
            cluster_id=clusters[cluster].pk if cluster else None,
            severity=severity,
            reason=reason,
            message=message,
        )
    AuditEvent.objects.create(
        organization=organization,
        project=project,
        actor="user:admin",
        action="created",
        subject_type="deployment",
        subject_id=str(chat.pk),
        subject_name="chat",
        after={"name": "chat", "model": "tiny-llama"},
    )
