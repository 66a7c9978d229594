"""One count, dealt out to the pools that a cluster was given bounds for."""

from collections.abc import Iterable
from dataclasses import dataclass

_PROCUREMENT_ORDER = ("reserved", "on_demand", "spot")


@dataclass(frozen=True, slots=True)
class Lot:
    """Bounds of one pool. ``procurement``: how it is paid for; None: not known."""

    name: str
    min_replicas: int
    max_replicas: int
    procurement: str | None


def dealt(replicas: int, lots: Iterable[Lot]) -> dict[str, int]:
    """Replicas by lot: its minimum for each, then by what they cost: reserved before on demand before spot."""
    rows = sorted(lots, key=lambda lot: (_cost_rank(lot.procurement), lot.name))
    found = {lot.name: lot.min_replicas for lot in rows}
    left = replicas - sum(found.values())
    for lot in rows:
        more = max(0, min(left, lot.max_replicas - lot.min_replicas))
        found[lot.name] += more
        left -= more
    return found


def _cost_rank(procurement: str | None) -> int:
    if procurement in _PROCUREMENT_ORDER:
        return _PROCUREMENT_ORDER.index(procurement)
    return len(_PROCUREMENT_ORDER)
