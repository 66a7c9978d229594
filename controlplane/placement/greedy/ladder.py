"""What a deployment gets in the room that is left for it, and which wishes give way if not all of it fits.

The order is policy (decision 0021): survivability, kind by kind; the latency rule; then replicas. Never residency,
providers or the budget.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controlplane.costing import replica_micro_usd_per_h
from controlplane.placement.greedy.candidates import Market, Slot
from controlplane.placement.greedy.spread import as_much_as_fits, spread
from controlplane.placement.greedy.tally import Ask, Shape
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.capacity import Ledger
from controlplane.placement.rules.needs import LEVELS, Index
from controlplane.placement.supply import Pool
from controlplane.placement.wishes import Survivability, WantedDeployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Where a deployment could go, in the room that ``ledger`` leaves beside what it holds itself.

    held:       pool id -> replicas that run there; ``standby`` names those pools of them that hold a warm standby
    money_left: what its project may spend on it, in micro-USD/h; None: no budget
    moves:      what runs may move where that saves so many times what the moves cost; None: only where it must
    """

    market: Market
    deployment: WantedDeployment
    ledger: Ledger
    held: Mapping[str, int]
    standby: frozenset[str] = frozenset()
    money_left: int | None = None
    more_instances: Mapping[str, int] = field(default_factory=dict)
    moves: float | None = None

    @property
    def problem(self) -> PlacementProblem:
        return self.market.problem

    @property
    def replicas(self) -> int:
        return max(1, self.deployment.min_replicas)

    @property
    def keeps_room(self) -> bool:
        """Whether room is kept for it, or only a place named to start in."""
        return self.deployment.min_replicas > 0 or self.market.index.needs(self.deployment).served > 0

    def slots(self) -> list[Slot]:
        """What the pools offer, what runs first, then by cost."""
        return self.market.slots(self.deployment, self.ledger, self.held, more_instances=self.more_instances)

    def grown(self, pool_id: str, instances: int) -> "Question":
        """The same, if a pool had so many instances more."""
        return replace(self, more_instances={pool_id: instances})

    def bounded_by(self, max_replicas: int) -> "Question":
        """The same, for another ``max_replicas``."""
        return replace(
            self,
            market=Market(Index(self.problem)),
            deployment=replace(self.deployment, max_replicas=max_replicas),
        )

    def unpaid(self) -> "Question":
        """The same, if money were no matter."""
        return replace(self, money_left=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What is kept of the wishes: up to which survivability, and whether of latency."""

    level: Survivability
    near: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Replicas by pool id: those that serve, those that stand by. ``whole``: enough while nothing is lost."""

    serving: Mapping[str, int]
    standby: Mapping[str, int]
    rung: Rung
    whole: bool


def choose(question: Question, slots: Sequence[Slot], *, spares: bool = True) -> Choice | None:
    """The first rung that holds, or as much as fits into ``slots``; None where nothing does.

    Without ``spares`` only the rungs on which no loss is survived.
    """
    for rung in rungs(question.deployment, slots):
        if not spares and rung.level != "none":
            continue
        choice = fits(question, rung, slots)
        if choice is not None:
            return choice
    return _part(question, slots)


def rungs(deployment: WantedDeployment, slots: Sequence[Slot]) -> Iterator[Rung]:
    """From all wishes kept to those that give way, but for replicas."""
    for level in reversed(LEVELS[: LEVELS.index(deployment.survivability) + 1]):
        yield Rung(level=level, near=True)
    if any(slot.far for slot in slots):
        yield Rung(level="none", near=False)


def fits(question: Question, rung: Rung, slots: Sequence[Slot] | None = None) -> Choice | None:
    """The cheapest choice that keeps all that ``rung`` keeps; None where there is none."""
    offered = _allowed(question.slots() if slots is None else slots, rung)
    if question.deployment.posture == "active_passive":
        choice = _one_serves(question, rung, offered)
    else:
        shape = spread(offered, _ask(question, rung.level))
        choice = None
        if shape is not None:
            choice = Choice(serving=shape.taken, standby={}, rung=rung, whole=True)
    return choice if choice is not None and _affordable(question, choice) else None


def _ask(question: Question, level: Survivability) -> Ask:
    return Ask(
        replicas=question.replicas,
        most=question.deployment.max_replicas,
        level=level,
        survival=level != "none",
        moves=question.moves,
    )


def _allowed(slots: Sequence[Slot], rung: Rung) -> list[Slot]:
    return [slot for slot in slots if not slot.far] if rung.near else list(slots)


def _one_serves(question: Question, rung: Rung, slots: Sequence[Slot]) -> Choice | None:
    """One cluster serves: where it serves already if that has the room, else the cheapest.

    With a survivability another, which no loss to be survived takes together with it, stands by with as much. Where
    what serves can't go on, what stands by does, for it is warm.
    """
    ask = replace(_ask(question, "none"), survival=rung.level != "none")
    offers: list[tuple[str, frozenset[str], bool, bool, Shape]] = []
    for name, group in _by_cluster(slots).items():
        shape = spread(group, ask)
        if shape is not None:
            serves = any(slot.held and slot.terms.pool.pool_id not in question.standby for slot in group)
            stands_by = any(slot.held and slot.terms.pool.pool_id in question.standby for slot in group)
            losses = frozenset[str]().union(*(slot.terms.losses[rung.level] for slot in group))
            offers.append((name, losses, serves, stands_by, shape))
    if rung.level == "none":
        if not offers:
            return None
        best = min(offers, key=lambda one: (not one[2], one[4].micro_usd_per_h, one[0]))
        return Choice(serving=best[4].taken, standby={}, rung=rung, whole=True)
    pairs = [
        (
            *(not first[2], not (first[2] or first[3]), not second[3]),
            *(first[4].micro_usd_per_h + second[4].micro_usd_per_h, first[4].micro_usd_per_h),
            *(first, second),
        )
        for first in offers
        for second in offers
        if not first[1] & second[1] and first[4].replicas + second[4].replicas <= ask.most
    ]
    if not pairs:
        return None
    *_, first, second = min(pairs, key=lambda pair: (*pair[:5], pair[5][0], pair[6][0]))
    return Choice(serving=first[4].taken, standby=second[4].taken, rung=rung, whole=True)


def _by_cluster(slots: Sequence[Slot]) -> dict[str, list[Slot]]:
    found: dict[str, list[Slot]] = {}
    for slot in slots:
        found.setdefault(slot.terms.cluster.name, []).append(slot)
    return found


def _part(question: Question, slots: Sequence[Slot]) -> Choice | None:
    """As much as there is room and money for, with no wish kept but the bounds."""
    ask = _ask(question, "none")
    near = [slot for slot in slots if not slot.far]
    rung = Rung(level="none", near=not any(slot.far for slot in slots))
    groups = [slots]
    if question.deployment.posture == "active_passive":
        groups = list(_by_cluster(slots).values())
    offers = []
    for group in groups:
        offered = sorted(group, key=lambda slot: (not slot.held, slot.far)) if near else group
        shape = as_much_as_fits(_bought(question, offered), ask)
        if shape is not None:
            serves = any(slot.held and slot.terms.pool.pool_id not in question.standby for slot in group)
            offers.append((not serves, -shape.replicas, shape.micro_usd_per_h, shape))
    if not offers:
        return None
    shape = min(offers, key=lambda offer: offer[:3])[3]
    return Choice(serving=shape.taken, standby={}, rung=rung, whole=False)


def _affordable(question: Question, choice: Choice) -> bool:
    if question.money_left is None or not question.keeps_room:
        return True
    pools, gpus = question.problem.pool_by_id, question.deployment.gpus_per_replica
    price = sum(
        replicas * budget_micro_usd_per_h(question.problem, pools[pool_id], gpus)
        for places in (choice.serving, choice.standby)
        for pool_id, replicas in places.items()
    )
    return price <= question.money_left


def _bought(question: Question, slots: Sequence[Slot]) -> list[Slot]:
    """The slots, as far as the project's money goes."""
    if question.money_left is None or not question.keeps_room:
        return list(slots)
    left, bought = question.money_left, []
    for slot in slots:
        price = budget_micro_usd_per_h(
            question.problem, slot.terms.pool, question.deployment.gpus_per_replica
        )
        replicas = slot.replicas if price == 0 else min(slot.replicas, max(0, left) // price)
        if replicas:
            bought.append(replace(slot, replicas=replicas))
            left -= replicas * price
    return bought


def budget_micro_usd_per_h(problem: PlacementProblem, pool: Pool, gpus_per_replica: int) -> int:
    """What one replica counts against a budget: the reservation's price where all of a pool is reserved.

    Where a pool has both, whoever comes may be the one who rents: the higher price counts. Errs high.
    """
    tariff = problem.tariff_by_pool[pool.pool_id]
    prices = [tariff.reserved_instance_micro_usd_per_h] if tariff.reserved_instances else []
    if tariff.reserved_instances < pool.capacity_instances:
        prices.append(tariff.instance_micro_usd_per_h)
    return replica_micro_usd_per_h(
        instance_micro_usd_per_h=max(prices, default=tariff.instance_micro_usd_per_h),
        gpus_per_instance=pool.gpus_per_instance,
        gpus=gpus_per_replica,
    )
