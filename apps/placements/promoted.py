"""Who serves after a failure has promoted a standby, as placement sees it. Pure; reads and writes nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from apps.placements.selectors import AssignmentHeld


def as_promoted(
    assignments: Sequence[AssignmentHeld], promoted: Mapping[UUID, UUID], pools: Iterable[Any]
) -> Iterator[AssignmentHeld]:
    """Those in force: of a deployment with a promoted cluster that one serves, and the others stand by.

    ``promoted``: cluster by deployment. One that the deployment has left counts no more.
    """
    cluster_ids = {row.pk: row.cluster_id for row in pools} if promoted else {}
    in_force = [row for row in assignments if row.in_force]
    standing = {
        (row.deployment_id, cluster_ids.get(row.pool_id)) for row in in_force if row.deployment_id in promoted
    }
    for row in in_force:
        chosen = promoted.get(row.deployment_id)
        if chosen is not None and (row.deployment_id, chosen) in standing:
            yield row._replace(standby=cluster_ids.get(row.pool_id) != chosen)
        else:
            yield row
