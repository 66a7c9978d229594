"""The rules that must always hold, looked at in the world itself: what runs where, whatever a plan says of it.

Own arithmetic; nothing of the code that is judged. Numbers are those of DESIGN.md.
"""

from collections import defaultdict
from collections.abc import Iterator

from controlplane.placement import Pool, WantedDeployment
from controlplane.simulation.world import World
from workloadplane.words import counted

#: Which losses a survivability covers, beside those of a pool or a part of it, which every one but ``none`` does.
COVERED = {
    "none": (),
    "zone": ("zone",),
    "region": ("zone", "region"),
    "provider": ("zone", "region", "provider"),
}


def broken(world: World) -> Iterator[str]:
    """Rules 2, 4 and 6, as the world stands."""
    yield from _residency(world)
    yield from _bounds(world)
    yield from _budgets(world)
    yield from _posture(world)


def promises_broken(world: World, kind: str | None, served_before: dict[str, float]) -> Iterator[str]:
    """Rule 5: who lost demand in a loss that he was promised to survive. ``kind``: of what failed, None for pools."""
    for entry in world.plan.deployments:
        deployment = world.first.deployment_by_id[entry.deployment_id]
        covered = COVERED[deployment.survivability]
        if entry.refusal is not None or entry.relaxed or not covered or (kind and kind not in covered):
            continue
        before = served_before.get(entry.deployment_id, 1.0)
        now = world.served_share(entry.deployment_id)
        if before >= 1 - 1e-6 and now < 1 - 1e-6:
            yield f"rule 5: {deployment.name} serves {now:.1%} after the loss that it was to survive"


def _places(world: World) -> Iterator[tuple[WantedDeployment, Pool, int]]:
    for part in (world.replicas, world.outgoing):
        for deployment_id, by_pool in part.items():
            for pool_id, ready in by_pool.items():
                if ready:
                    yield (
                        world.first.deployment_by_id[deployment_id],
                        world.first.pool_by_id[pool_id],
                        len(ready),
                    )


def _residency(world: World) -> Iterator[str]:
    for deployment, pool, _ in _places(world):
        cluster = world.first.cluster_by_id[pool.cluster_id]
        if deployment.residency and cluster.jurisdiction not in deployment.residency:
            yield f"rule 2: {deployment.name} runs in {cluster.jurisdiction}, outside {deployment.residency}"
        allowed = deployment.providers_allowed
        if cluster.provider in deployment.providers_denied or (allowed and cluster.provider not in allowed):
            yield f"rule 2: {deployment.name} runs with {cluster.provider}"


def _bounds(world: World) -> Iterator[str]:
    used = world.used_gpus()
    for pool in world.first.pools:
        if used.get(pool.pool_id, 0) > world.capacity_gpus(pool):
            yield f"rule 4: {counted(used[pool.pool_id], 'GPU')} in {pool.name}, which has {world.capacity_gpus(pool)}"
    for deployment_id, by_pool in world.replicas.items():
        deployment = world.first.deployment_by_id[deployment_id]
        running = sum(len(ready) for ready in by_pool.values())
        if running > deployment.max_replicas:
            yield f"rule 4: {deployment.name} has {counted(running, 'replica')}, of {deployment.max_replicas} at most"


def _budgets(world: World) -> Iterator[str]:
    """A project at its cheapest reading: each GPU at its reservation's price where its pool has one. Errs low."""
    cheapest = {
        pool_id: min(
            tariff.reserved_instance_micro_usd_per_h
            if tariff.reserved_instances
            else tariff.instance_micro_usd_per_h,
            tariff.instance_micro_usd_per_h,
        )
        for pool_id, tariff in world.first.tariff_by_pool.items()
    }
    spent: dict[str, float] = defaultdict(float)
    for deployment_id, by_pool in world.replicas.items():
        deployment = world.first.deployment_by_id[deployment_id]
        for pool_id, ready in by_pool.items():
            gpus = len(ready) * deployment.gpus_per_replica
            pool = world.first.pool_by_id[pool_id]
            spent[deployment.project_id] += gpus * cheapest[pool_id] / pool.gpus_per_instance
    for budget in world.first.budgets:
        if spent[budget.project_id] > budget.micro_usd_per_h * (1 + 1e-9):
            usd = spent[budget.project_id] / 1e6
            yield f"rule 4: {budget.project_id} spends {usd:.2f} USD/h of {budget.micro_usd_per_h / 1e6:.2f}"


def _posture(world: World) -> Iterator[str]:
    """What the plan lets serve, and what takes requests now."""
    for deployment in world.first.deployments:
        if deployment.posture != "active_passive":
            continue
        standby = world.standby.get(deployment.deployment_id, set())
        planned = {
            world.first.pool_by_id[pool_id].cluster_id
            for pool_id, replicas in world.wanted.get(deployment.deployment_id, {}).items()
            if replicas and pool_id not in standby
        }
        serving = {
            world.first.pool_by_id[pool_id].cluster_id for pool_id in world.serving(deployment.deployment_id)
        }
        if max(len(planned), len(serving)) > 1:
            yield f"rule 6: {deployment.name} serves in {', '.join(sorted(planned | serving))}"
