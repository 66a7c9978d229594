"""Who could go elsewhere with all that it keeps of its wishes makes way for who could not.

Those who are where a deployment that lacks something could be are placed after it instead: those who came newly there
first, then those who run there; one by one, at last all together but for those who can't go elsewhere. That stands
where it lacks less then and none of them lacks more. A move costs them less than any wish is worth, so that this is no
matter of priority (decision 0021).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import nsmallest

from controlplane.placement.greedy.book import Book, question_of
from controlplane.placement.greedy.turns import NOTHING, exchange, give_back, lack, place, stand, withdraw
from controlplane.placement.rules.traffic import too_far
from controlplane.placement.wishes import WantedDeployment

#: So many others in all, and so many for one deployment, are tried to be placed after those who lack something.
MOST_TRIALS = 100
MOST_TRIALS_EACH = 10

#: Pool id -> (whether it runs there, GPUs, deployment) of those who have room there and may be placed anew.
_Tenants = Mapping[str, Sequence[tuple[bool, int, WantedDeployment]]]


def make_way(book: Book, in_order: Collection[WantedDeployment], *, runners: bool) -> None:
    """Place some of ``in_order`` after those of them who lack something, where that helps these and harms nobody.

    runners: those too who run where they are in the way; else only who came newly there
    """
    lacking = [deployment for deployment in in_order if deployment.deployment_id in book.lacking]
    tenants = _tenants(book, in_order, runners=runners) if lacking else {}
    trials = MOST_TRIALS
    for deployment in lacking:
        in_its_way = _in_its_way(book, deployment, tenants)
        parties = [[other] for other in in_its_way] + [in_its_way] * (len(in_its_way) > 1)
        while parties:
            others = parties.pop(0)
            if trials < len(others):
                return
            if lack(book, deployment) == NOTHING:
                break
            trials -= len(others)
            could_not = _change_turns(book, deployment, others)
            if 0 < len(could_not) < len(others):
                parties.append([other for other in others if other not in could_not])


def _tenants(book: Book, in_order: Iterable[WantedDeployment], *, runners: bool) -> _Tenants:
    found: dict[str, list[tuple[bool, int, WantedDeployment]]] = {}
    for deployment in in_order:
        if _is_refused(book, deployment):
            continue
        held = {row.pool_id for row in book.kept[deployment.deployment_id]}
        for row in book.entries[deployment.deployment_id].allocations:
            if row.room_replicas and (runners or row.pool_id not in held):
                gpus = row.room_replicas * row.gpus_per_replica
                found.setdefault(row.pool_id, []).append((row.pool_id in held, gpus, deployment))
    return found


def _in_its_way(book: Book, deployment: WantedDeployment, tenants: _Tenants) -> list[WantedDeployment]:
    """Who has room or money that would help: those first who came newly there, of these those with most GPUs."""
    wanted = set(_wanted_pools(book, deployment))
    gpus_by_id: dict[str, int] = {}
    runs: set[str] = set()
    for terms in book.market.terms(deployment):
        pool_id = terms.pool.pool_id
        for runs_here, gpus, other in tenants.get(pool_id, ()):
            if pool_id in wanted or _shares_budget(book, deployment, other):
                gpus_by_id[other.deployment_id] = gpus_by_id.get(other.deployment_id, 0) + gpus
                if runs_here:
                    runs.add(other.deployment_id)
    gpus_by_id.pop(deployment.deployment_id, None)
    most = nsmallest(MOST_TRIALS_EACH, gpus_by_id, key=lambda name: (name in runs, -gpus_by_id[name], name))
    return [book.problem.deployment_by_id[name] for name in most]


def _shares_budget(book: Book, one: WantedDeployment, other: WantedDeployment) -> bool:
    return one.project_id == other.project_id and one.project_id in book.budgets


def _wanted_pools(book: Book, deployment: WantedDeployment) -> list[str]:
    """Where more room would help: not where it is too far, nor in the domain that has enough room for all of it."""
    rows = book.entries[deployment.deployment_id].allocations
    exchange(book, deployment, rows, ())
    slots = question_of(book, deployment, rows).slots()
    exchange(book, deployment, (), rows)
    level, replicas = deployment.survivability, book.market.index.needs(deployment).replicas
    room: dict[str, float] = {}
    for slot in slots:
        if not slot.far:
            for loss in slot.terms.losses[level]:
                enough = min(slot.demand, 1 / replicas) * slot.terms.survival
                room[loss] = room.get(loss, 0.0) + slot.replicas * enough
    ample = max(room, key=lambda loss: (room[loss], loss), default=None)
    if ample is not None and room[ample] < 1:
        ample = None
    return [
        terms.pool.pool_id
        for terms in book.market.terms(deployment)
        if terms.open
        and ample not in terms.losses[level]
        and not too_far(book.problem, deployment, terms.cluster)
    ]


def _change_turns(
    book: Book, first: WantedDeployment, others: Sequence[WantedDeployment]
) -> list[WantedDeployment]:
    """Place ``first`` before the others, if it lacks less then and they nothing more.

    Those of them who would lack more, where that was in the way.
    """
    parties = (first, *others)
    before = {one.deployment_id: lack(book, one) for one in parties}
    entries = {one.deployment_id: book.entries[one.deployment_id] for one in parties}
    choices = {name: book.lacking[name] for name in entries if name in book.lacking}
    give_back(book, first)
    for other in others:
        withdraw(book, other)
    place(book, first)
    for other in others:
        exchange(book, other, (), book.kept[other.deployment_id])
        place(book, other)
    helped = lack(book, first) < before[first.deployment_id]
    harmed = [
        other
        for other in others
        if _is_refused(book, other) or lack(book, other) > before[other.deployment_id]
    ]
    if helped and not harmed:
        return []
    for one in parties:
        give_back(book, one)
    book.lacking |= choices
    for one in parties:
        stand(book, one, entries[one.deployment_id])
    return harmed if helped else []


def _is_refused(book: Book, deployment: WantedDeployment) -> bool:
    """Then it keeps what it held, whoever has that room now."""
    name = deployment.deployment_id
    return name in book.lacking and book.lacking[name] is None
