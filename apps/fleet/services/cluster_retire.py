"""A cluster that is not coming back: fenced at once, and given up when its lease is over."""

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F

from apps.api.actors import Actor, system_actor
from apps.api.clock import database_now
from apps.api.problems import Problem
from apps.api.services import audit_record, one_transaction
from apps.fleet import selectors
from apps.fleet.models import Cluster, GpuPool
from apps.fleet.services.announce import fleet_changed
from apps.fleet.services.cluster_change import cluster_locked
from workloadplane.words import counted


@one_transaction
def cluster_retire(*, actor: Actor, cluster: Cluster, if_match: str | None = None) -> Cluster:
    """Refuse its agent from now on, for good, and let nothing new go there.

    What still runs there serves as long as gateways let it; the control plane gives it up once the lease is over
    (``clusters_retired_settle``). Raises Problem ``not_found``, ``stale_etag``, ``conflict`` if it was retired before.
    """
    from apps.agents.services import agent_forget
    from apps.telemetry.services import event_record

    agent_forget(cluster_id=cluster.pk)  # before the cluster is locked: an agent's call locks in this order
    locked = cluster_locked(cluster, if_match)
    if locked.retired_at is not None:
        raise Problem("conflict", f"{locked.name} was retired before; nothing is left to do")
    before = {"schedulable": locked.schedulable, "gateway_url": locked.gateway_url}
    locked.retired_at = database_now()
    locked.schedulable = False
    locked.gateway_url = ""
    locked.generation += 1
    locked.save(update_fields=["retired_at", "schedulable", "gateway_url", "generation"])
    after = {"schedulable": False, "gateway_url": "", "retired_at": locked.retired_at}
    audit_record(actor=actor, action="retired", subject=locked, before=before, after=after)
    event_record(
        organization_id=locked.organization_id,
        cluster_id=locked.pk,
        severity="warning",
        reason="ClusterRetired",
        message=f"{locked.name} is retired: its agent is refused, and what it ran is given up when its lease is over",
    )
    fleet_changed(organization_id=locked.organization_id)
    return locked


def clusters_retired_settle(*, now: datetime) -> int:
    """Give up retired clusters whose lease is over; how many those were. May run twice or late."""
    from apps.agents.selectors import serving_lease

    due = selectors.cluster_ids_retired(before=now - serving_lease())
    for cluster_id in due:
        _end(cluster_id, now)
    return len(due)


@transaction.atomic
def _end(cluster_id: UUID, now: datetime) -> None:
    """Its assignments and replicas have ended, its capacity is gone. Locks: deployments, cluster, pools, the clock."""
    from apps.agents.services import replicas_end
    from apps.deployments.selectors import deployment_ids_present, deployments_locked
    from apps.deployments.services import deployment_observe
    from apps.placements.services import assignments_end
    from apps.telemetry.services import event_record

    deployment_ids = sorted(deployment_ids_present(cluster_id=cluster_id))
    deployments_locked(ids=deployment_ids)
    cluster = Cluster.objects.select_for_update(no_key=True).filter(pk=cluster_id, ended_at=None).first()
    if cluster is None:
        return
    cluster.ended_at = now
    cluster.generation += 1
    cluster.save(update_fields=["ended_at", "generation"])
    GpuPool.objects.filter(cluster=cluster).update(
        capacity_instances=0, schedulable=False, generation=F("generation") + 1
    )
    replicas = replicas_end(cluster_id=cluster_id, now=now)
    assignments = assignments_end(cluster_id=cluster_id, now=now)
    audit_record(
        actor=system_actor("fleet"),
        action="ended",
        subject=cluster,
        after={"assignments_ended": assignments, "replicas_given_up": replicas, "capacity_instances": 0},
        organization_id=cluster.organization_id,
    )
    event_record(
        organization_id=cluster.organization_id,
        cluster_id=cluster.pk,
        severity="warning",
        reason="ClusterEnded",
        message=f"{cluster.name}: given up are {counted(assignments, 'assignment')} and {counted(replicas, 'replica')}",
    )
    if deployment_ids:
        deployment_observe(deployment_ids=deployment_ids)
    fleet_changed(organization_id=cluster.organization_id)
