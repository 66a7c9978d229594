"""Who may serve now, of the clusters of an ``active_passive`` deployment.

A cluster serves by the table that its gateways hold, so whoever served yesterday may do so until it is known that it
does not. It *yields*: it keeps the next one waiting until one of these is so.

- All its gateways have in force a table, of the generation in which it first did not serve or a later one.
- Its lease is over: its gateways refuse by themselves when the control plane was not heard for that long. This holds
  only of tables that speak of one serving cluster (``leased``); by a table of ``active_active`` it serves for ever.
- It is gone: an operator retired it, and vouches that nothing of it runs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Yielding:
    """A cluster that may still serve by a table it holds, though none that is made now says so.

    generation: of its first routing table in which it does not serve; None until that is made
    leased:     whether what it may hold ends with its lease
    """

    cluster_id: str
    generation: int | None
    leased: bool


@dataclass(frozen=True)
class Seat:
    """``serving``: the cluster that tables name, None for none. While one serves, none yields."""

    serving: str | None = None
    yielding: tuple[Yielding, ...] = ()


@dataclass(frozen=True)
class Standing:
    """What is known of a cluster.

    gateways_hold: the routing generation that all its gateways have in force at least, 0 if that is not known
    silent_s:      for so long its agent was surely not heard; 0 if that is not known, infinite if it never was
    gone:          nothing of it can run: no agent ever enrolled, or it was retired and has ended
    """

    gateways_hold: int = 0
    silent_s: float = 0.0
    gone: bool = False


def seat_settle(seat: Seat, wanted: str | None, standings: Mapping[str, Standing], *, lease_s: float) -> Seat:
    """The seat as it may be now, if ``wanted`` is to serve (None: nobody).

    ``lease_s``: for how long a cluster may serve after it was heard, all margins included.
    A cluster that ``standings`` does not name is gone, and holds nobody up.
    """
    yielding = [row for row in seat.yielding if not has_yielded(row, standings, lease_s=lease_s)]
    serving = seat.serving
    if serving is not None and serving != wanted:
        # Though its lease be over: it may be heard at this very moment and be told to go on. Only a table that is
        # made says otherwise, so the lease counts from the next look on.
        if not _is_gone(serving, standings):
            yielding.append(Yielding(serving, generation=None, leased=True))
        serving = None
    if wanted is not None and all(row.cluster_id == wanted for row in yielding):
        return Seat(serving=wanted)
    return Seat(serving=serving, yielding=tuple(yielding))


def seat_fenced(cluster_ids: Iterable[str]) -> Seat:
    """The seat of which nothing is known any more (the database is of an earlier time): whoever may be, yields."""
    return Seat(yielding=tuple(Yielding(name, generation=None, leased=True) for name in sorted(cluster_ids)))


def lease_is_over(standing: Standing, *, lease_s: float) -> bool:
    """Whether every gateway of a cluster has stopped by itself to serve what one cluster alone may."""
    return standing.silent_s >= lease_s


def _is_gone(cluster_id: str, standings: Mapping[str, Standing]) -> bool:
    return cluster_id not in standings or standings[cluster_id].gone


def has_yielded(row: Yielding, standings: Mapping[str, Standing], *, lease_s: float) -> bool:
    """Whether a cluster that yields surely serves no more."""
    if _is_gone(row.cluster_id, standings):
        return True
    standing = standings[row.cluster_id]
    if row.generation is None:
        return False  # no table says so yet
    return standing.gateways_hold >= row.generation or (
        row.leased and lease_is_over(standing, lease_s=lease_s)
    )
