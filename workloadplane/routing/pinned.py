"""A deployment as seen by a request that only one of its revisions may serve."""

from dataclasses import replace

from workloadplane.routing.facts import VACANT, Snapshot


def only_revision(snapshot: Snapshot, revision_id: str) -> Snapshot:
    """The snapshot without other revisions: the rest of an answer must come from what began it."""
    return replace(
        snapshot,
        replicas=tuple(r if r.revision_id == revision_id else VACANT for r in snapshot.replicas),
        revisions=tuple(share for share in snapshot.revisions if share.revision_id == revision_id),
    )
