"""Clusters that are lost and will not return soon: a drain of each, for as long as its incident stands.

Nobody is asked whether promises break, for what it had is gone already. But what finds no other place keeps the one it
had, as in any drain whose risk nobody accepted: a cluster that is back serves that before it is trusted again. What is
being emptied already is left as it is. May run twice, late or beside itself.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from apps.drains import selectors
from apps.drains.models import Drain, DrainKind
from apps.drains.services.drain_enter import drain_order, drain_withdraw

_BY = "incident"


def losses_take(
    *, organization_id: UUID, lost: Mapping[str, datetime], unsound: Collection[str], now: datetime
) -> int:
    """Begin what is to be replaced, end what is sound again; how many those were. Runs in a transaction.

    lost:    clusters by name -> since when each is
    unsound: clusters of which an incident is not resolved
    """
    held = {row.name: row for row in selectors.drains_by_incident(organization_id=organization_id)}
    began = [_begin(organization_id, name, at, now) for name, at in lost.items() if name not in held]
    ended = [drain_withdraw(row.pk, now) for name, row in held.items() if name not in unsound]
    return sum(began) + sum(ended)


def _begin(organization_id: UUID, cluster: str, lost_at: datetime, now: datetime) -> bool:
    kind = DrainKind.CLUSTER.value
    if selectors.drain_held(organization_id=organization_id, kind=kind, name=cluster):
        return False
    drain = Drain(
        organization_id=organization_id,
        kind=kind,
        name=cluster,
        reason="it is lost",
        state="moving",
        created_by=_BY,
        lost_at=lost_at,
    )
    if not selectors.pool_ids(drain=drain):
        return False  # nothing could be there
    drain_order(drain, now)
    return True
