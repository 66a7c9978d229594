"""Small worlds for placement tests: three regions, or whatever Hypothesis makes of them."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from controlplane.placement import (
    Cluster,
    FailureDomain,
    PlacementPlan,
    PlacementProblem,
    Pool,
    Reservation,
    WantedDeployment,
)

GIB = 1024**3


def cluster(name: str, jurisdiction: str, *, provider: str = "", closed: str = "") -> Cluster:
    """A cluster alone in its zone and region; alone at its provider unless told."""
    provider = provider or f"{name}-provider"
    return Cluster(
        cluster_id=f"c-{name}",
        name=name,
        generation=1,
        region=name,
        provider=provider,
        jurisdiction=jurisdiction,
        failure_domains=(
            FailureDomain(kind="zone", name=f"{name}-a"),
            FailureDomain(kind="region", name=name),
            FailureDomain(kind="provider", name=provider),
        ),
        closed=closed,
    )


def pool(cluster_name: str, **fields: Any) -> Pool:
    """Four instances of one H100 each, on demand at 2 USD/h, unless told."""
    procurement = fields.pop("procurement", "on_demand")
    values: dict[str, Any] = {
        "pool_id": f"p-{cluster_name}-{procurement}",
        "name": procurement.replace("_", "-"),
        "generation": 1,
        "cluster_id": f"c-{cluster_name}",
        "instance_type_id": "i-1",
        "instance_type": "h100-1x",
        "gpu_type": "H100",
        "gpu_vendor": "nvidia",
        "gpu_memory_gib": 80,
        "precisions": ("bf16", "fp8"),
        "procurement": procurement,
        "gpus_per_instance": 1,
        "capacity_instances": 4,
        "instance_micro_usd_per_h": 2_000_000,
    }
    return Pool(**(values | fields))


def wanted(name: str = "chat", **fields: Any) -> WantedDeployment:
    """One replica of one GPU, anywhere, unless told."""
    values: dict[str, Any] = {
        "deployment_id": f"d-{name}",
        "name": name,
        "project_id": "project",
        "generation": 1,
        "revision_id": f"r-{name}-1",
        "revision": 1,
        "model_version_id": "m",
        "engine": "vllm",
        "precision": "bf16",
        "weights_bytes": GIB,
        "gpus_per_replica": 1,
        "min_replicas": 1,
        "max_replicas": 4,
        "concurrency_target": 8.0,
        "posture": "active_active",
        "survivability": "none",
        "residency": (),
        "priority": 0,
        "created_at_s": 1.0,
    }
    return WantedDeployment(**(values | fields))


CLUSTERS = (cluster("eu", "eu"), cluster("us", "us"), cluster("jp", "jp"))
POOLS = (
    pool("eu"),
    pool("us", instance_micro_usd_per_h=1_000_000),
    pool("jp", instance_micro_usd_per_h=3_000_000),
)


def problem(*deployments: WantedDeployment, **fields: Any) -> PlacementProblem:
    """The three regions with a pool each (us is cheapest, jp dearest) unless told."""
    values: dict[str, Any] = {
        "organization_id": "o",
        "wanted": 1,
        "plan_generation": 0,
        "clusters": CLUSTERS,
        "pools": POOLS,
        "deployments": deployments,
    }
    return PlacementProblem(**(values | fields))


def adopted(before: PlacementProblem, plan: PlacementPlan) -> PlacementProblem:
    """The same world after the plan was carried out."""
    current = tuple(
        row.carried_out(assignment_id=f"a-{entry.deployment_id}-{number}", deployment_id=entry.deployment_id)
        for entry in plan.deployments
        for number, row in enumerate(entry.allocations)
    )
    return replace(before, current=current, plan_generation=before.plan_generation + 1)


def placed(plan: PlacementPlan, name: str = "chat") -> dict[str, int]:
    """Minimum replicas by pool id."""
    return {row.pool_id: row.min_replicas for row in plan.by_deployment[f"d-{name}"].allocations}


NAMES = ("eu", "us", "jp", "in")


@st.composite
def problems(draw: st.DrawFn) -> PlacementProblem:
    """Worlds of up to four clusters, seven pools and six deployments, of every kind and often too small."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    providers = st.sampled_from(("aws", "gcp"))
    closed = st.sampled_from(("", "", "", "agent not connected"))
    clusters = tuple(cluster(name, name, provider=draw(providers), closed=draw(closed)) for name in names)
    kinds = draw(
        st.lists(
            st.tuples(st.sampled_from(names), st.sampled_from(("reserved", "on_demand", "spot"))),
            max_size=7,
            unique=True,
        )
    )
    pools = tuple(draw(_pools(name, procurement)) for name, procurement in kinds)
    reservations = tuple(
        Reservation(pool_id=one.pool_id, instances=one.capacity_instances, instance_micro_usd_per_h=1_500_000)
        for one in pools
        if one.procurement == "reserved" and draw(st.booleans())
    )
    deployments = tuple(draw(_deployments(index)) for index in range(draw(st.integers(0, 6))))
    return problem(*deployments, clusters=clusters, pools=pools, reservations=reservations)


@st.composite
def _pools(draw: st.DrawFn, cluster_name: str, procurement: str) -> Pool:
    return pool(
        cluster_name,
        procurement=procurement,
        gpus_per_instance=draw(st.sampled_from((1, 2, 8))),
        capacity_instances=draw(st.integers(0, 4)),
        precisions=draw(st.sampled_from((("bf16",), ("bf16", "fp8")))),
        instance_micro_usd_per_h=draw(st.sampled_from((0, 1_000_000, 3_000_001, None))),
        hazard_per_h=0.3 if procurement == "spot" else 0.0,
        closed=draw(st.sampled_from(("", "", "", "not schedulable"))),
    )


@st.composite
def _deployments(draw: st.DrawFn, index: int) -> WantedDeployment:
    minimum = draw(st.integers(0, 5))
    return wanted(
        f"d{index}",
        min_replicas=minimum,
        max_replicas=max(1, minimum + draw(st.integers(0, 6))),
        gpus_per_replica=draw(st.sampled_from((1, 1, 2, 4))),
        precision=draw(st.sampled_from(("bf16", "bf16", "fp8"))),
        posture=draw(st.sampled_from(("active_active", "active_active", "active_passive"))),
        survivability=draw(st.sampled_from(("none", "none", "zone", "region", "provider"))),
        residency=draw(st.sampled_from(((), (), ("eu",), ("eu", "us")))),
        priority=draw(st.integers(-1, 1)),
        created_at_s=float(index),
    )
