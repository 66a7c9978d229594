"""Plans of any shape, adopted as the solver's are, and agents that do what their tables say."""

from dataclasses import replace

import msgspec
from django.utils import timezone

from apps.agents.models import ClusterTableEntry, Replica, TableKind
from apps.deployments.models import Deployment, Revision
from apps.deployments.tasks import deployments_reconcile
from apps.fleet.models import GpuPool
from apps.placements.models import Assignment
from apps.placements.services import Decision, placement_apply, placement_load
from controlplane.placement import Allocation, PlacementPlan
from controlplane.placement import DeploymentPlan as Entry
from tests.support.fleet_world import FleetWorld, replica_reported
from workloadplane.protocol.desired import DesiredAssignment


def allocation(
    pool: GpuPool,
    deployment: Deployment,
    replicas: int,
    revision: Revision | None = None,
    **fields: int | bool,
) -> Allocation:
    """``replicas`` kept ready on a pool, at most as many."""
    revision = revision or Deployment.objects.get(pk=deployment.pk).current_revision
    assert revision is not None
    made = Allocation(
        revision_id=str(revision.pk),
        revision=revision.number,
        pool_id=str(pool.pk),
        min_replicas=replicas,
        max_replicas=replicas,
        gpus_per_replica=1,
        micro_usd_per_h=0,
        marginal_micro_usd_per_h=0,
        reasons=(),
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def adopt(world: FleetWorld, deployment: Deployment, *allocations: Allocation) -> None:
    """A plan that gives the deployment these."""
    problem = placement_load(organization_id=world.organization.pk, now=timezone.now())
    wanted = problem.deployment_by_id[str(deployment.pk)]
    entry = Entry(
        deployment_id=wanted.deployment_id, generation=wanted.generation, allocations=tuple(allocations)
    )
    plan = PlacementPlan(deployments=(entry,), micro_usd_per_h=0, marginal_micro_usd_per_h=0)
    assert placement_apply(decision=Decision(problem=problem, plan=plan, solve_s=0.0)).adopted


def told(row: Assignment) -> DesiredAssignment:
    """What the agent of an assignment's cluster is told of it."""
    entry = ClusterTableEntry.objects.get(table__kind=TableKind.DESIRED, key=str(row.pk))
    return msgspec.json.decode(bytes(entry.payload), type=DesiredAssignment)


def agents_work(*, may_start: bool = True) -> None:
    """One pass of all agents: stop what is above the most, start what is below the least; then look at it again."""
    for row in Assignment.objects.filter(ended_at=None).select_related("pool__cluster", "revision"):
        bounds = told(row).autoscaling
        held = list(Replica.objects.filter(assignment_id=row.pk, gone_at=None).order_by("pk"))
        for replica in held[bounds.max_replicas :]:
            Replica.objects.filter(pk=replica.pk).update(state="stopped", gone_at=timezone.now())
        for _ in range(bounds.min_replicas - len(held) if may_start else 0):
            replica_reported(row)
    deployments_reconcile()


def ready_by_cluster(deployment: Deployment) -> dict[str, int]:
    """Ready replicas now."""
    found: dict[str, int] = {}
    for replica in Replica.objects.filter(deployment=deployment, gone_at=None, state="ready"):
        name = replica.cluster.name
        found[name] = found.get(name, 0) + 1
    return found
