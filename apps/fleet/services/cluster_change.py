"""Changing and removing clusters."""

from collections.abc import Sequence

from apps.api.actors import Actor
from apps.api.etags import etag_of_generation, precondition_check
from apps.api.problems import Problem, not_found
from apps.api.services import audit_record, one_transaction
from apps.fleet.models import Cluster
from apps.fleet.services.announce import fleet_changed
from apps.fleet.services.cluster_create import domains_of


@one_transaction
def cluster_patch(
    *,
    actor: Actor,
    cluster: Cluster,
    schedulable: bool | None = None,
    failure_domains: Sequence[str] | None = None,
    if_match: str | None = None,
) -> Cluster:
    """Change what is given. Raises Problem ``not_found``, ``stale_etag``, ``invalid_document``, ``conflict``."""
    locked = cluster_locked(cluster, if_match)
    if schedulable and locked.retired_at is not None:
        raise Problem("conflict", f"{locked.name} was retired, which is for good; make another cluster")
    before = {"schedulable": locked.schedulable, "failure_domains": _domains(locked)}
    if schedulable is not None:
        locked.schedulable = schedulable
    if failure_domains is not None:
        locked.failure_domains.set(domains_of(locked.region, failure_domains))
    after = {"schedulable": locked.schedulable, "failure_domains": _domains(locked)}
    if after != before:
        locked.generation += 1
        locked.save(update_fields=["schedulable", "generation"])
        audit_record(actor=actor, action="changed", subject=locked, before=before, after=after)
        fleet_changed(organization_id=locked.organization_id, cluster_ids=[locked.pk])
    return locked


@one_transaction
def cluster_delete(*, actor: Actor, cluster: Cluster, if_match: str | None = None) -> None:
    """Remove a cluster that has no pools. Raises Problem ``not_found``, ``in_use``, ``stale_etag``."""
    locked = cluster_locked(cluster, if_match)
    organization_id = locked.organization_id
    audit_record(actor=actor, action="deleted", subject=locked, before={"name": locked.name})
    locked.delete()
    fleet_changed(organization_id=organization_id)


def cluster_locked(cluster: Cluster, if_match: str | None) -> Cluster:
    """Without its key: whoever stores a row that refers to it, late in a transaction, must not wait for us."""
    locked = (
        Cluster.objects.select_for_update(of=("self",), no_key=True)
        .select_related("region__provider")
        .filter(pk=cluster.pk)
        .first()
    )
    if locked is None:  # somebody else was quicker
        raise not_found("cluster", cluster.name)
    precondition_check(if_match, etag_of_generation(locked.generation))
    return locked


def _domains(cluster: Cluster) -> list[str]:
    return sorted(str(domain) for domain in cluster.failure_domains.all())
