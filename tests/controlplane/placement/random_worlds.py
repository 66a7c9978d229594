"""Random problems with everything in them, and random plans for them, lawful or not.

``whole_problems`` and ``planned_problems`` are strategies: Hypothesis chooses the sizes and a seed, a generator does
the rest, so that thousands of them take seconds. ``random_problem`` and ``random_plan`` do the same for whoever has a
generator.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from hypothesis import strategies as st

from controlplane.placement import (
    Allocation,
    Budget,
    Cluster,
    CurrentAssignment,
    Demand,
    DeploymentPlan,
    FailureDomain,
    Latency,
    NetworkPrice,
    Occupancy,
    PerformanceProfile,
    PlacementPlan,
    PlacementProblem,
    Pool,
    Reservation,
    Slo,
    TrafficShare,
    WantedDeployment,
)
from controlplane.placement.supply import Procurement
from controlplane.placement.wishes import Survivability
from tests.controlplane.placement.worlds import pool, wanted
from workloadplane.protocol.refusal import Refusal

#: region: (provider, jurisdiction)
REGIONS = {
    "eu-1": ("aws", "eu"),
    "eu-2": ("gcp", "eu"),
    "us-1": ("aws", "us"),
    "us-2": ("azure", "us"),
    "jp-1": ("gcp", "jp"),
}
#: instance type: (GPUs, GPU type, precisions, USD/h)
TYPES = {
    "h100-1x": (1, "H100", ("bf16", "fp8"), 4),
    "h100-2x": (2, "H100", ("bf16", "fp8"), 8),
    "h100-8x": (8, "H100", ("bf16", "fp8"), 30),
    "a100-8x": (8, "A100", ("bf16",), 16),
}
MODELS = ("m-1", "m-2")
SURVIVABILITIES: tuple[Survivability, ...] = ("none", "none", "zone", "region", "region", "provider")
PROCUREMENTS: tuple[Procurement, ...] = ("reserved", "on_demand", "on_demand", "spot", "spot")


@st.composite
def whole_problems(draw: st.DrawFn) -> PlacementProblem:
    """Up to six clusters, nine pools and six deployments, with demand, profiles, budgets and what runs already."""
    rng = Random(draw(st.integers(0, 2**32)))
    sizes = draw(st.tuples(st.integers(1, 6), st.integers(0, 9), st.integers(0, 6)))
    return random_problem(rng, clusters=sizes[0], pools=sizes[1], deployments=sizes[2])


@st.composite
def planned_problems(draw: st.DrawFn) -> tuple[PlacementProblem, PlacementPlan]:
    """A problem and any plan that names its deployments and pools."""
    rng = Random(draw(st.integers(0, 2**32)))
    sizes = draw(st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 6)))
    problem = random_problem(rng, clusters=sizes[0], pools=sizes[1], deployments=sizes[2])
    return problem, random_plan(rng, problem)


def random_problem(rng: Random, *, clusters: int, pools: int, deployments: int) -> PlacementProblem:
    """A world of at most these sizes."""
    made_clusters = tuple(_cluster(rng, number) for number in range(clusters))
    made_pools = _pools(rng, made_clusters, pools)
    profiles = tuple(_profiles(rng))
    rows = tuple(_deployment(rng, number) for number in range(deployments))
    current, outgoing = _running(rng, rows, made_pools)
    made_pools = tuple(_shrunk(rng, one) for one in made_pools)
    return PlacementProblem(
        organization_id="o",
        wanted=1,
        plan_generation=0,
        clusters=made_clusters,
        pools=made_pools,
        deployments=rows,
        current=tuple(current),
        occupancies=tuple(outgoing),
        reservations=tuple(
            Reservation(
                pool_id=one.pool_id,
                instances=rng.randint(1, max(1, one.capacity_instances)),
                instance_micro_usd_per_h=rng.choice((500_000, 1_500_000)),
            )
            for one in made_pools
            if one.procurement == "reserved" and rng.random() < 0.8
        ),
        demands=tuple(demand for one in rows for demand in _demands(rng, one)),
        profiles=profiles,
        latencies=tuple(
            Latency(origin_region=origin, target_region=target, rtt_ms=rng.choice((20.0, 80.0, 150.0, 250.0)))
            for origin in REGIONS
            for target in REGIONS
            if origin != target and rng.random() < 0.9
        ),
        budgets=tuple(
            Budget(project_id=f"project-{number}", micro_usd_per_h=rng.randint(1, 60) * 1_000_000)
            for number in range(2)
            if rng.random() < 0.3
        ),
        network_prices=tuple(
            NetworkPrice(
                origin_region=origin, target_region=target, micro_usd_per_gib=rng.choice((20_000, 90_000))
            )
            for origin in REGIONS
            for target in REGIONS
            if origin != target and rng.random() < 0.5
        ),
    )


def _cluster(rng: Random, number: int) -> Cluster:
    """In one zone, for one in eight in two, for one in ten nobody recorded it."""
    region = rng.choice(list(REGIONS))
    provider, jurisdiction = REGIONS[region]
    zones = rng.sample("ab", 2 if rng.random() < 0.12 else 1) if rng.random() > 0.1 else []
    return Cluster(
        cluster_id=f"c-{number}",
        name=f"cluster-{number}",
        generation=1,
        region=region,
        provider=provider,
        jurisdiction=jurisdiction,
        failure_domains=(
            *(FailureDomain(kind="zone", name=f"{region}{zone}") for zone in zones),
            FailureDomain(kind="region", name=region),
            FailureDomain(kind="provider", name=provider),
        ),
        closed="agent not connected" if rng.random() < 0.08 else "",
    )


def _pools(rng: Random, clusters: Sequence[Cluster], count: int) -> tuple[Pool, ...]:
    made: dict[tuple[str, str, str], Pool] = {}
    for _ in range(count):
        cluster, instance_type = rng.choice(clusters), rng.choice(list(TYPES))
        procurement = rng.choice(PROCUREMENTS)
        gpus, gpu_type, precisions, usd = TYPES[instance_type]
        price = usd * (400_000 if procurement == "spot" else 1_000_000) + rng.randint(0, 300_000)
        made[cluster.cluster_id, instance_type, procurement] = pool(
            cluster.name,
            pool_id=f"p-{cluster.cluster_id}-{instance_type}-{procurement}",
            name=f"{instance_type}-{procurement}",
            cluster_id=cluster.cluster_id,
            instance_type_id=f"i-{instance_type}",
            instance_type=instance_type,
            gpu_type=gpu_type,
            precisions=precisions,
            procurement=procurement,
            gpus_per_instance=gpus,
            capacity_instances=rng.choice((0, 1, 2, 4, 8)),
            instance_micro_usd_per_h=None if rng.random() < 0.05 else rng.choice((price, price, 0)),
            hazard_per_h=rng.choice((0.0, 0.05, 0.3)) if procurement == "spot" else 0.0,
            obtainability=1.0 if procurement == "reserved" else rng.choice((1.0, 0.9, 0.5)),
            closed="not schedulable" if rng.random() < 0.08 else "",
        )
    return tuple(made.values())


def _profiles(rng: Random) -> list[PerformanceProfile]:
    rows = []
    for model in MODELS:
        for instance_type, (gpus, gpu_type, _, _) in TYPES.items():
            for size in (1, 2, 3, 4):
                if size > gpus or rng.random() < 0.15:
                    continue
                speed = (2.0 if gpu_type == "H100" else 1.0) * size**0.9 * rng.choice((0.9, 1.0, 1.3))
                rows.append(
                    PerformanceProfile(
                        model_version_id=model,
                        instance_type_id=f"i-{instance_type}",
                        tensor_parallel=size,
                        requests_per_s=speed,
                        tokens_per_s=speed * 200,
                        concurrency=16,
                        image_pull_s=rng.choice((None, 30.0)),
                        weight_load_s=rng.choice((None, 20.0, 60.0)),
                    )
                )
    return rows


def _deployment(rng: Random, number: int) -> WantedDeployment:
    minimum = rng.choice((0, 1, 1, 2, 3, 5))
    return wanted(
        f"d{number}",
        project_id=f"project-{rng.randrange(2)}",
        model_version_id=rng.choice((*MODELS, *MODELS, "m-unmeasured")),
        min_replicas=minimum,
        max_replicas=max(1, minimum + rng.choice((0, 1, 4, 20))),
        gpus_per_replica=rng.choice((1, 1, 2, 3, 4)),
        precision=rng.choice(("bf16", "bf16", "fp8")),
        posture=rng.choice(("active_active",) * 3 + ("active_passive",)),
        survivability=rng.choice(SURVIVABILITIES),
        residency=rng.choice(((), (), ("eu",), ("eu", "us"))),
        providers_denied=rng.choice(((), (), (), ("aws",))),
        priority=rng.randint(-1, 1),
        created_at_s=float(number),
        slo=Slo(ttft_s_p95=rng.choice((None, 0.1, 0.2, 1.0))),
    )


def _demands(rng: Random, deployment: WantedDeployment) -> list[Demand]:
    """From up to three origins; for one in four nobody asks, some ask by tokens or by requests alone."""
    if rng.random() < 0.25:
        return []
    by_requests, by_tokens = rng.choice(((1.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0)))
    size = rng.choice((0.5, 1.0, 1.0, 2.0, 4.0)) * deployment.gpus_per_replica
    rows = []
    for origin in rng.sample(list(REGIONS), rng.choice((1, 1, 2, 3))):
        requests_per_s = size * rng.choice((0.0, 0.3, 1.0, 1.7))
        rows.append(
            Demand(
                deployment_id=deployment.deployment_id,
                origin_region=origin,
                requests_per_s_p50=requests_per_s * by_requests * 0.5,
                requests_per_s_p95=requests_per_s * by_requests,
                tokens_per_s_p50=requests_per_s * by_tokens * 90,
                tokens_per_s_p95=requests_per_s * by_tokens * rng.choice((150.0, 210.0)),
            )
        )
    return rows


def _running(
    rng: Random, deployments: Sequence[WantedDeployment], pools: Sequence[Pool]
) -> tuple[list[CurrentAssignment], list[Occupancy]]:
    """What runs and what is on its way out, inside its pools' capacity; not always where it may still be."""
    free = {one.pool_id: one.capacity_instances for one in pools}
    rows = []
    for deployment in deployments:
        if rng.random() < 0.5:
            continue
        for one in rng.sample(list(pools), min(len(pools), rng.choice((1, 1, 2)))):
            each = one.gpus_per_instance // deployment.gpus_per_replica
            if not each or not free[one.pool_id]:
                continue
            instances = rng.randint(1, free[one.pool_id])
            replicas = rng.randint(1, instances * each)
            free[one.pool_id] -= -(-replicas // each)
            ready = rng.randint(0, replicas) if deployment.survivability == "none" else replicas
            rows.append(
                CurrentAssignment(
                    assignment_id=f"a-{deployment.deployment_id}-{one.pool_id}",
                    deployment_id=deployment.deployment_id,
                    revision_id=rng.choice((deployment.revision_id, deployment.revision_id, "older")),
                    revision=1,
                    pool_id=one.pool_id,
                    min_replicas=ready,
                    max_replicas=replicas + rng.randint(0, 3),
                    gpus_per_replica=deployment.gpus_per_replica,
                    planned_replicas=replicas,
                )
            )
    return rows, [
        Occupancy(
            deployment_id=rng.choice(deployments).deployment_id,
            pool_id=one.pool_id,
            gpus_per_replica=rng.choice((1, one.gpus_per_instance)),
            replicas=1,
        )
        for one in pools
        if deployments and free[one.pool_id] and rng.random() < 0.1
    ]


def _shrunk(rng: Random, one: Pool) -> Pool:
    """One pool in twelve lost an instance after it was filled."""
    if one.capacity_instances and rng.random() < 1 / 12:
        return replace(one, capacity_instances=one.capacity_instances - 1)
    return one


def random_plan(rng: Random, problem: PlacementProblem) -> PlacementPlan:
    """Any plan that names the problem's deployments and pools. Most break some rule."""
    entries = tuple(_entry(rng, problem, deployment) for deployment in problem.deployments)
    money = sum(entry.micro_usd_per_h for entry in entries)
    return PlacementPlan(deployments=entries, micro_usd_per_h=money, marginal_micro_usd_per_h=money)


def _entry(rng: Random, problem: PlacementProblem, deployment: WantedDeployment) -> DeploymentPlan:
    pools = rng.sample(list(problem.pools), min(len(problem.pools), rng.choice((0, 1, 2, 2, 3, 4))))
    rows = []
    for number, one in enumerate(pools):
        minimum, planned = rng.choice((0, 1, 2, 3, 6)), rng.choice((0, 1, 2, 5))
        gpus = rng.choice((deployment.gpus_per_replica,) * 4 + (1,))
        price = gpus * (one.instance_micro_usd_per_h or 0) // one.gpus_per_instance
        rows.append(
            Allocation(
                revision_id=deployment.revision_id if gpus == deployment.gpus_per_replica else "older",
                revision=1,
                pool_id=one.pool_id,
                min_replicas=minimum,
                max_replicas=max(1, minimum, planned) + rng.choice((0, 0, 2)),
                gpus_per_replica=gpus,
                micro_usd_per_h=price * max(minimum, planned),
                marginal_micro_usd_per_h=price * max(minimum, planned),
                reasons=(),
                planned_replicas=planned,
                standby=deployment.posture == "active_passive" and number > 0 and rng.random() < 0.7,
            )
        )
    clusters = sorted({problem.pool_by_id[row.pool_id].cluster_id for row in rows if not row.standby})
    refusal = Refusal(rule="pool_capacity", subject="", value="", remedy="") if not rows else None
    return DeploymentPlan(
        deployment_id=deployment.deployment_id,
        generation=1,
        allocations=tuple(rows),
        traffic=tuple(_traffic(rng, problem, deployment, clusters)),
        refusal=refusal,
    )


def _traffic(
    rng: Random, problem: PlacementProblem, deployment: WantedDeployment, clusters: Sequence[str]
) -> list[TrafficShare]:
    rows = []
    for demand in problem.demands:
        if demand.deployment_id != deployment.deployment_id or not clusters:
            continue
        cuts = [rng.random() for _ in clusters]
        rows += [
            TrafficShare(origin_region=demand.origin_region, cluster_id=name, share=cut / sum(cuts))
            for name, cut in zip(clusters, cuts, strict=True)
        ]
    return rows
