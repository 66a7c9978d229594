"""A deployment as seen by a request that only one of its revisions may serve, or that shall stay away from clusters."""

from collections.abc import Collection
from dataclasses import replace

from workloadplane.routing.facts import VACANT, Snapshot


def only_revision(snapshot: Snapshot, revision_id: str) -> Snapshot:
    """The snapshot without other revisions: the rest of an answer must come from what began it."""
    return replace(
        snapshot,
        replicas=tuple(r if r.revision_id == revision_id else VACANT for r in snapshot.replicas),
        revisions=tuple(share for share in snapshot.revisions if share.revision_id == revision_id),
        elsewhere=None,
    )


def withholding(snapshot: Snapshot, cluster_ids: Collection[str]) -> Snapshot:
    """The snapshot with what is left of it without these clusters, which are to get nothing for now."""
    if not cluster_ids:
        return snapshot
    shares = [
        replace(share, cluster_ids=tuple(name for name in share.cluster_ids if name not in cluster_ids))
        for share in snapshot.revisions
    ]
    replicas = () if snapshot.cluster_id in cluster_ids else snapshot.replicas
    return replace(snapshot, elsewhere=replace(snapshot, revisions=tuple(shares), replicas=replicas))
