"""How many replicas go where, for one deployment: the shapes that posture and survivability ask for.

Each function takes slots in order of preference and returns replicas by pool id, or None where no such shape fits.
Greedy: exact for one price per pool and for clusters with one failure domain of a kind, else merely lawful.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from controlplane.placement.candidates import Candidate, Slot, slots
from controlplane.placement.problem import WantedDeployment

Shape = dict[str, int]


def shape(
    deployment: WantedDeployment, found: tuple[Candidate, ...], replicas: int, most: int
) -> Shape | None:
    """Replicas by pool: at least ``replicas`` of them after any loss to be survived, at most ``most`` in all."""
    ordered = slots(found)
    if deployment.posture == "active_passive":
        return _one_cluster(ordered, replicas)
    if deployment.survivability == "none":
        return _one_each_first(ordered, replicas)
    return _surviving(ordered, replicas, most)


def _one_cluster(ordered: Sequence[Slot], replicas: int) -> Shape | None:
    """All in one cluster: where it runs already if that has the room, else where it costs least."""
    by_cluster: dict[str, list[Slot]] = {}
    for slot in ordered:
        by_cluster.setdefault(slot.candidate.cluster.cluster_id, []).append(slot)
    offers = []
    for group in by_cluster.values():
        filled = _cheapest(group, replicas)
        if filled is not None:
            runs_here = any(slot.held for slot in group)
            offers.append((not runs_here, _price(group, filled), group[0].candidate.cluster.name, filled))
    return min(offers, key=lambda offer: offer[:3])[3] if offers else None


def _price(group: Sequence[Slot], filled: Shape) -> int:
    left = Counter(filled)
    total = 0
    for slot in group:
        taken = min(slot.replicas, left[slot.candidate.pool.pool_id])
        left[slot.candidate.pool.pool_id] -= taken
        total += taken * slot.expected_micro_usd_per_h
    return total


def _cheapest(ordered: Iterable[Slot], replicas: int) -> Shape | None:
    taken: Shape = {}
    for slot in ordered:
        part = min(slot.replicas, replicas)
        if part:
            taken[slot.candidate.pool.pool_id] = taken.get(slot.candidate.pool.pool_id, 0) + part
            replicas -= part
    return taken if replicas == 0 else None


def _one_each_first(ordered: Sequence[Slot], replicas: int) -> Shape | None:
    """What runs stays; then one in each cluster that has none, by preference; the rest where it is cheapest."""
    rest = [slot.replicas for slot in ordered]
    taken: Counter[str] = Counter()
    used: set[str] = set()

    def take(index: int, most: int) -> None:
        part = min(most, rest[index], replicas - taken.total())
        if part > 0:
            rest[index] -= part
            taken[ordered[index].candidate.pool.pool_id] += part
            used.add(ordered[index].candidate.cluster.cluster_id)

    for index, slot in enumerate(ordered):
        if slot.held:
            take(index, slot.replicas)
    for index, slot in enumerate(ordered):
        if slot.candidate.cluster.cluster_id not in used:
            take(index, 1)
    for index in range(len(ordered)):
        take(index, replicas)
    return dict(taken) if taken.total() == replicas else None


def _surviving(ordered: Sequence[Slot], replicas: int, most: int) -> Shape | None:
    """Enough outside each domain: with at most ``q`` in any domain, ``replicas + q`` in all are enough.

    The fewer domains, the more spare: with ``m`` of them, q = ceil(replicas / (m - 1)). Each m is tried; the cheapest
    shape that moves nothing wins.
    """
    domains = {domain for slot in ordered for domain in slot.candidate.domains}
    offers = []
    for cap in sorted({-(-replicas // (count - 1)) for count in range(2, len(domains) + 1)}):
        if replicas + cap > most:
            continue
        filled = _capped(ordered, replicas + cap, cap)
        if filled is not None:
            moved = sum(
                max(0, slot.replicas - filled.get(slot.candidate.pool.pool_id, 0))
                for slot in ordered
                if slot.held
            )
            offers.append((moved, _price(ordered, filled), cap, filled))
    return min(offers, key=lambda offer: offer[:3])[3] if offers else None


def _capped(ordered: Sequence[Slot], replicas: int, cap: int) -> Shape | None:
    in_domain: Counter[str] = Counter()
    taken: Shape = {}
    for slot in ordered:
        part = min(slot.replicas, replicas, *(cap - in_domain[domain] for domain in slot.candidate.domains))
        if part <= 0:
            continue
        for domain in slot.candidate.domains:
            in_domain[domain] += part
        taken[slot.candidate.pool.pool_id] = taken.get(slot.candidate.pool.pool_id, 0) + part
        replicas -= part
    return taken if replicas == 0 else None


def domains_named(found: tuple[Candidate, ...]) -> tuple[str, ...]:
    """The failure domains that the candidates are in, in order."""
    return tuple(name for name, _ in groupby(sorted(domain for one in found for domain in one.domains)))
