"""Spares yield: what others hold for their survivability alone goes to who lacks what it needs with nothing lost.

The order in which wishes give way (decision 0021) is one for all deployments: anybody's survivability before anybody's
latency and replicas. Those of lower priority give way first, then those who came newly, then the youngest. Nobody who
gives way is left with less than it needs with nothing lost.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from controlplane.placement.greedy.book import Book
from controlplane.placement.greedy.candidates import Terms
from controlplane.placement.greedy.turns import exchange, give_back, lack, place, stand
from controlplane.placement.plan import Allocation, DeploymentPlan
from controlplane.placement.rules.needs import TOLERANCE, missing_replicas
from controlplane.placement.rules.traffic import too_far
from controlplane.placement.wishes import WantedDeployment

#: So many ways are tried in vain for one deployment's next replica, and in all, before it stays without.
MOST_IN_VAIN_EACH = 6
MOST_IN_VAIN = 100

#: So many give way together at most.
MOST_TOGETHER = 32

#: (priority, whether it runs, age, id) of who may give way: the first the first.
_Turn = tuple[int, bool, float, str]


@dataclass(frozen=True, slots=True)
class _Way:
    """Some who would give way together, each with what it keeps."""

    givers: Sequence[tuple[_Turn, tuple[Allocation, ...]]]

    @property
    def order(self) -> list[_Turn]:
        """What is taken last decides which way is tried first."""
        return sorted((turn for turn, _ in self.givers), reverse=True)


@dataclass(slots=True)
class _Spares:
    """Who may hold spares, by pool and by project with a budget, in the order in which they give way."""

    book: Book
    by_pool: dict[str, list[_Turn]] = field(default_factory=dict)
    by_project: dict[str, list[_Turn]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for deployment_id in self.book.entries:
            turn, lists = self._lists_of(self.book.problem.deployment_by_id[deployment_id])
            for turns in lists:
                turns.append(turn)
        for turns in (*self.by_pool.values(), *self.by_project.values()):
            turns.sort()

    def enter(self, deployment: WantedDeployment) -> None:
        """Note where a deployment may hold a spare by now."""
        turn, lists = self._lists_of(deployment)
        for turns in lists:
            place = bisect_left(turns, turn)
            if turns[place : place + 1] != [turn]:
                turns.insert(place, turn)

    def _lists_of(self, deployment: WantedDeployment) -> tuple[_Turn, list[list[_Turn]]]:
        """Its turn, and where that stands: nowhere if it can hold no spare."""
        book, name = self.book, deployment.deployment_id
        entry = book.entries[name]
        refused = entry.refusal is not None or (name in book.lacking and book.lacking[name] is None)
        turn = (deployment.priority, bool(book.kept[name]), -deployment.created_at_s, name)
        if deployment.survivability == "none" or refused:
            return turn, []
        pool_ids = dict.fromkeys(row.pool_id for row in entry.allocations if row.room_replicas)
        lists = [self.by_pool.setdefault(pool_id, []) for pool_id in pool_ids]
        if lists and deployment.project_id in book.budgets:
            lists.append(self.by_project.setdefault(deployment.project_id, []))
        return turn, lists


def spares_yield(book: Book, in_order: Collection[WantedDeployment]) -> list[WantedDeployment]:
    """Let spares yield to those of ``in_order`` who lack replicas or nearness. Who was placed anew for that."""
    needy = [one for one in in_order if _in_need(book, one)]
    if not needy:
        return []
    spares, left = _Spares(book), MOST_IN_VAIN
    changed: dict[str, WantedDeployment] = {}
    for deployment in needy:
        if changed:
            _place_again(book, deployment)
        while _in_need(book, deployment):
            givers, in_vain = _yield_once(book, spares, deployment, min(left, MOST_IN_VAIN_EACH))
            left -= in_vain
            if not givers:
                break
            for giver in givers:
                spares.enter(giver)
                changed[giver.deployment_id] = giver
    for deployment in (*in_order, *changed.values()) if changed else ():
        if deployment.deployment_id in book.lacking:
            _place_again(book, deployment)
    return list(changed.values())


def _place_again(book: Book, deployment: WantedDeployment) -> None:
    """In the room that is left over, if it lacks less then: a spare may be larger than what it went to."""
    name, before = deployment.deployment_id, lack(book, deployment)
    entry, choice = book.entries[name], book.lacking[name]
    give_back(book, deployment)
    place(book, deployment, may_move=False)
    if lack(book, deployment) >= before:
        give_back(book, deployment)
        stand(book, deployment, entry)
        book.lacking[name] = choice


def _in_need(book: Book, deployment: WantedDeployment) -> bool:
    missing, far, _ = lack(book, deployment)
    takes_room = deployment.min_replicas > 0 or book.market.index.needs(deployment).served > 0
    return takes_room and (missing > 0 or far)


def _yield_once(
    book: Book, spares: _Spares, deployment: WantedDeployment, most: int
) -> tuple[Sequence[WantedDeployment], int]:
    """Who gave way so that a deployment lacks less than before, and how many ways were tried in vain."""
    in_vain = 0
    for way in islice(sorted(_ways(book, spares, deployment), key=lambda way: way.order), most):
        givers = _gone(book, deployment, way)
        if givers:
            return givers, in_vain
        in_vain += 1
    return (), in_vain


def _ways(book: Book, spares: _Spares, deployment: WantedDeployment) -> Iterator[_Way]:
    """Ways to room for one replica more, or for as many as only help together; and to money."""
    needs = book.market.index.needs(deployment)
    terms = [
        one
        for one in book.market.terms(deployment)
        if one.open and (needs.served == 0 or needs.share(one.pool) > 0)
    ]
    near = [one for one in terms if not too_far(book.problem, deployment, one.cluster)]
    missing, far, _ = lack(book, deployment)
    groups: list[tuple[list[Terms], bool]] = []
    if deployment.posture == "active_passive":
        clusters = {one.cluster.cluster_id for one in terms}
        groups += [
            ([one for one in terms if one.cluster.cluster_id == here], True) for here in sorted(clusters)
        ]
    elif missing:
        groups += [([one], False) for one in terms]
    if far and deployment.posture != "active_passive":
        groups.append((near, True))
    for group, together in groups:
        pool_ids = [one.pool.pool_id for one in group]
        own = sum(
            row.room_replicas
            for row in book.entries[deployment.deployment_id].allocations
            if row.pool_id in pool_ids
        )
        way = _to_room(book, spares, deployment, pool_ids, max(1, needs.size - own) if together else 1)
        if way is not None:
            yield way
    if deployment.project_id in book.budgets:
        yield from _to_money(book, spares, deployment)


def _to_room(
    book: Book, spares: _Spares, deployment: WantedDeployment, pool_ids: Sequence[str], replicas: int
) -> _Way | None:
    """Those first in turn whose spares in these pools make room for so many replicas more."""

    def room() -> int:
        return sum(book.ledger.headroom(pool_id, deployment.gpus_per_replica) for pool_id in pool_ids)

    turns = {turn for pool_id in pool_ids for turn in spares.by_pool.get(pool_id, ())}
    givers: list[tuple[_Turn, tuple[Allocation, ...]]] = []
    for turn in sorted(turns):
        if room() >= replicas or len(givers) == MOST_TOGETHER:
            break
        keeps = _needed(book, turn[-1], pool_ids)
        if keeps is None:
            if len(pool_ids) == 1:
                spares.by_pool[pool_ids[0]].remove(turn)
            continue
        giver = book.problem.deployment_by_id[turn[-1]]
        exchange(book, giver, book.entries[turn[-1]].allocations, keeps)
        givers.append((turn, keeps))
    enough = room() > 0
    for turn, keeps in givers:
        giver = book.problem.deployment_by_id[turn[-1]]
        exchange(book, giver, keeps, book.entries[turn[-1]].allocations)
    return _Way(givers) if givers and enough else None


def _to_money(book: Book, spares: _Spares, deployment: WantedDeployment) -> Iterator[_Way]:
    """Those of its project whose spares' price pays for a replica more."""
    givers: list[tuple[_Turn, tuple[Allocation, ...]]] = []
    for turn in spares.by_project.get(deployment.project_id, ()):
        pool_ids = [row.pool_id for row in book.entries[turn[-1]].allocations]
        keeps = _needed(book, turn[-1], pool_ids)
        if keeps is not None:
            givers.append((turn, keeps))
            yield _Way(tuple(givers))
        if len(givers) == MOST_IN_VAIN_EACH:
            return


def _needed(book: Book, deployment_id: str, pool_ids: Sequence[str]) -> tuple[Allocation, ...] | None:
    """What a deployment needs with nothing lost of what it has, as little of it as may be in these pools.

    None where it has no spare there.
    """
    index, deployment = book.market.index, book.problem.deployment_by_id[deployment_id]
    rows = book.entries[deployment_id].allocations
    if missing_replicas(index, deployment, rows):
        return None
    needs = index.needs(deployment)
    spare_replicas = sum(row.room_replicas for row in rows if not row.standby) - needs.replicas
    spare_share = (
        sum(
            row.room_replicas * needs.share(book.problem.pool_by_id[row.pool_id])
            for row in rows
            if not row.standby
        )
        - needs.served
    )
    kept = []
    for row in rows:
        gone = 0
        if row.pool_id in pool_ids:
            gone = row.room_replicas
            if not row.standby:
                share = needs.share(book.problem.pool_by_id[row.pool_id]) if needs.served > 0 else 0.0
                gone = min(gone, spare_replicas)
                gone = min(gone, int((spare_share + TOLERANCE) / share)) if share > 0 else gone
                spare_replicas -= gone
                spare_share -= gone * share
        kept.append(_less(row, gone) if gone > 0 else row)
    if tuple(kept) == rows:
        return None
    return tuple(row for row in kept if row.room_replicas)


def _less(row: Allocation, gone: int) -> Allocation:
    left = row.room_replicas - gone
    return replace(
        row, min_replicas=min(row.min_replicas, left), planned_replicas=min(row.planned_replicas, left)
    )


def _gone(book: Book, deployment: WantedDeployment, way: _Way) -> Sequence[WantedDeployment]:
    """Place a deployment before those on a way, who then get what is left beyond what they keep.

    Who of them has changed; nobody, and all as before, where it lacks no less then or one of them more than a spare.
    """
    givers = [(book.problem.deployment_by_id[turn[-1]], keeps) for turn, keeps in way.givers]
    parties = (*(giver for giver, _ in givers), deployment)
    before = {one.deployment_id: lack(book, one) for one in parties}
    entries = {one.deployment_id: book.entries[one.deployment_id] for one in parties}
    choices = {name: book.lacking[name] for name in entries if name in book.lacking}
    for giver, keeps in givers:
        exchange(book, giver, entries[giver.deployment_id].allocations, keeps)
    give_back(book, deployment)
    place(book, deployment, spares=False)
    for giver, keeps in reversed(givers):
        name = giver.deployment_id
        exchange(book, giver, keeps, book.kept[name])
        del book.entries[name]
        book.lacking.pop(name, None)
        place(book, giver, may_move=False)
    if deployment.survivability != "none":
        give_back(book, deployment)
        place(book, deployment)
    name = deployment.deployment_id
    fine = lack(book, deployment)[:2] < before[name][:2] and all(
        lack(book, giver)[:2] <= before[giver.deployment_id][:2] for giver, _ in givers
    )
    undone = [
        one
        for one in parties
        if not fine or _same(book.entries[one.deployment_id], entries[one.deployment_id])
    ]
    for one in undone:
        give_back(book, one)
        stand(book, one, entries[one.deployment_id])
        if one.deployment_id in choices:
            book.lacking[one.deployment_id] = choices[one.deployment_id]
    if not fine:
        return ()
    changed = [giver for giver, _ in givers if giver not in undone]
    book.given_way.update(one.deployment_id for one in changed)
    return changed


def _same(one: DeploymentPlan, other: DeploymentPlan) -> bool:
    return _rooms(one) == _rooms(other)


def _rooms(entry: DeploymentPlan) -> set[tuple[str, int, int, bool]]:
    return {(row.pool_id, row.min_replicas, row.planned_replicas, row.standby) for row in entry.allocations}
