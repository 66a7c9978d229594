"""What does one plan change against another? Replicas that start, stop and move, money, promises, refusals.

The two plans may answer different problems (the world moved on, or somebody asks what if): each is priced and judged
in its own. Rooms are compared, ceilings are not.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import product

from controlplane.costing import usd_printed
from controlplane.placement.judge.certificate import Certificate, Promise, certify
from controlplane.placement.plan import DeploymentPlan, PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.cost import PlanCost, plan_costs
from controlplane.placement.supply import FailureDomain
from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted

#: Where nothing else changes, a difference in cost below this is not told (0.01 USD/h).
LEAST_MICRO_USD_PER_H = 10_000
#: Parts of the cost that are told in words of their own.
_TOLD_APART = ("rent_micro_usd_per_h", "relaxed_micro_usd_per_h")


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Replicas that leave one pool (``cluster/pool``) while as many start in another.

    An empty ``from_pool``: they start anew; an empty ``to_pool``: they stop. 0 replicas: a place to start in, of a
    deployment that scales to zero.
    """

    from_pool: str
    to_pool: str
    replicas: int

    def __str__(self) -> str:
        if not self.replicas:
            return (
                f"may start on {self.to_pool}" if self.to_pool else f"may no longer start on {self.from_pool}"
            )
        if not self.from_pool:
            return f"{self.replicas} start{_s(self.replicas)} on {self.to_pool}"
        if not self.to_pool:
            return f"{self.replicas} stop{_s(self.replicas)} on {self.from_pool}"
        return f"{self.replicas} move{_s(self.replicas)} from {self.from_pool} to {self.to_pool}"


def _s(replicas: int) -> str:
    return "s" if replicas == 1 else ""


def _words(rule: str) -> str:
    return rule.replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentDiff:
    """What changes for one deployment. What it has not in one of the plans is None or empty there.

    moves:             first what moves, then what starts, then what stops
    revision_before, revision_after: of what it runs; the highest where there are several
    serves_before, serves_after: clusters that serve
    cost_before, cost_after: its part of ``plan_cost``; churn is that of the later plan
    promise_kept_before, promise_kept_after: by the certificates
    survives_no_more, survives_now: losses that the one plan survives and the other does not, where it runs in both
    refused:           why it is not placed as wanted, where it was or for another reason; placed: it is again
    given_up, granted: wishes that are no longer kept, or of survivability less; and those that are kept again
    """

    deployment_id: str
    deployment: str
    moves: tuple[Move, ...]
    revision_before: int | None
    revision_after: int | None
    serves_before: tuple[str, ...]
    serves_after: tuple[str, ...]
    cost_before: PlanCost
    cost_after: PlanCost
    promise_kept_before: bool | None
    promise_kept_after: bool | None
    survives_no_more: tuple[FailureDomain, ...]
    survives_now: tuple[FailureDomain, ...]
    refused: Refusal | None
    placed: bool
    given_up: tuple[Refusal, ...]
    granted: tuple[Refusal, ...]

    @property
    def changed_micro_usd_per_h(self) -> int:
        """What it costs more (negative: less), churn and broken wishes included."""
        return self.cost_after.total_micro_usd_per_h - self.cost_before.total_micro_usd_per_h

    @property
    def spent_more_micro_usd_per_h(self) -> int:
        """The same without broken wishes: their price is policy, and whoever gives one up is told by name."""
        relaxed = self.cost_after.relaxed_micro_usd_per_h - self.cost_before.relaxed_micro_usd_per_h
        return self.changed_micro_usd_per_h - relaxed

    @property
    def promise_lost(self) -> bool:
        return bool(self.promise_kept_before) and self.promise_kept_after is False

    @property
    def promise_gained(self) -> bool:
        return self.promise_kept_before is False and bool(self.promise_kept_after)

    @property
    def handed_over(self) -> str:
        """Who serves instead of whom, in words, where no move tells it; empty where that is as before."""
        before, after = set(self.serves_before), set(self.serves_after)
        came = after - before - {move.to_pool.split("/")[0] for move in self.moves}
        went = before - after - {move.from_pool.split("/")[0] for move in self.moves}
        if not (before and after and (came or went)):
            return ""
        return f"served by {', '.join(self.serves_after)} instead of {', '.join(self.serves_before)}"

    @property
    def costs_said(self) -> str:
        """Costs that change beside rent and wishes, in words: all there is to tell where nothing else happens."""
        names = (part.name for part in fields(PlanCost) if part.name not in _TOLD_APART)
        costs = ((name, getattr(self.cost_before, name), getattr(self.cost_after, name)) for name in names)
        return ", ".join(
            f"{name.removesuffix('_micro_usd_per_h')} {usd_printed(before)} -> {usd_printed(after)} USD/h"
            for name, before, after in costs
            if before != after
        )

    def __str__(self) -> str:
        news = list(self._news())
        before, after = self.cost_before.rent_micro_usd_per_h, self.cost_after.rent_micro_usd_per_h
        if before != after:
            news.append(f"rent {usd_printed(before)} -> {usd_printed(after)} USD/h")
        return f"{self.deployment}: {'; '.join(news) or self.costs_said}"

    def _news(self) -> Iterator[str]:
        if self.promise_kept_before is None:
            yield "new"
        if self.promise_kept_after is None:
            yield "gone"
        if self.refused is not None:
            yield f"not placed as wanted: {_words(self.refused.rule)}, {self.refused.value}"
        if self.placed:
            yield "placed as wanted"
        yield from map(str, self.moves)
        if self.handed_over:
            yield self.handed_over
        if (
            None not in (self.revision_before, self.revision_after)
            and self.revision_before != self.revision_after
        ):
            yield f"revision {self.revision_before} becomes {self.revision_after}"
        if self.promise_lost:
            yield "its promise is no longer kept"
        if self.promise_gained:
            yield "its promise is kept now"
        if self.survives_no_more:
            yield f"would no longer survive losing {', '.join(map(str, self.survives_no_more))}"
        if self.survives_now:
            yield f"would now survive losing {', '.join(map(str, self.survives_now))}"
        yield from (f"given up: {_words(refusal.rule)}, {refusal.value}" for refusal in self.given_up)
        yield from (f"granted: {_words(refusal.rule)}" for refusal in self.granted)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDiff:
    """What changes in all. ``deployments``: the worst news first, then by money; those without a change are counted."""

    deployments: tuple[DeploymentDiff, ...]
    unchanged: int
    cost_before: PlanCost
    cost_after: PlanCost

    @property
    def replicas_moved(self) -> int:
        return sum(move.replicas for move in self._moves() if move.from_pool and move.to_pool)

    @property
    def replicas_started(self) -> int:
        return sum(move.replicas for move in self._moves() if not move.from_pool)

    @property
    def replicas_stopped(self) -> int:
        return sum(move.replicas for move in self._moves() if not move.to_pool)

    @property
    def promises_lost(self) -> tuple[str, ...]:
        """Names of deployments."""
        return tuple(one.deployment for one in self.deployments if one.promise_lost)

    @property
    def promises_gained(self) -> tuple[str, ...]:
        """Names of deployments."""
        return tuple(one.deployment for one in self.deployments if one.promise_gained)

    def _moves(self) -> Iterator[Move]:
        return (move for one in self.deployments for move in one.moves)

    def lines(self) -> tuple[str, ...]:
        """All of it in words: a line a deployment, and the sum."""
        money = (
            f"rent {usd_printed(self.cost_before.rent_micro_usd_per_h)}"
            f" -> {usd_printed(self.cost_after.rent_micro_usd_per_h)} USD/h"
        )
        moves = ", ".join(
            (
                f"{counted(self.replicas_moved, 'replica')} move{_s(self.replicas_moved)}",
                f"{self.replicas_started} start{_s(self.replicas_started)}",
                f"{self.replicas_stopped} stop{_s(self.replicas_stopped)}",
            )
        )
        promises = f"{counted(len(self.promises_lost), 'promise')} lost, {len(self.promises_gained)} gained"
        total = f"in all: {moves}; {money}; {promises}; {counted(self.unchanged, 'deployment')} unchanged"
        return (*map(str, self.deployments), total)


def plan_diff(
    before_problem: PlacementProblem,
    before_plan: PlacementPlan,
    after_problem: PlacementProblem,
    after_plan: PlacementPlan,
    *,
    only: Collection[str] | None = None,
) -> PlanDiff:
    """From the one plan to the other; of ``only`` these deployment ids, where they are given."""
    before, after = (
        _Side(before_problem, before_plan, only),
        _Side(after_problem, after_plan, only),
    )
    ids = list(dict.fromkeys((*before.entries, *after.entries)))
    found = [_deployment_diff(before, after, deployment_id) for deployment_id in ids]
    changed = sorted((one for one in found if _tells_something(one)), key=_urgency)
    return PlanDiff(
        deployments=tuple(changed),
        unchanged=len(found) - len(changed),
        cost_before=_sum(before.costs[deployment_id] for deployment_id in before.entries),
        cost_after=_sum(after.costs[deployment_id] for deployment_id in after.entries),
    )


class _Side:
    """One of the two plans, priced and judged."""

    def __init__(self, problem: PlacementProblem, plan: PlacementPlan, only: Collection[str] | None) -> None:
        self.problem = problem
        self.costs: Mapping[str, PlanCost] = plan_costs(problem, plan)
        self.entries = {
            entry.deployment_id: entry
            for entry in plan.deployments
            if only is None or entry.deployment_id in only
        }
        certificate: Certificate = certify(problem, plan, only=set(self.entries))
        self.promises: Mapping[str, Promise] = {row.deployment_id: row for row in certificate.promises}

    def rooms(self, deployment_id: str) -> Counter[str]:
        """Replicas by pool; 0 where there is only a place to start in."""
        entry = self.entries.get(deployment_id)
        found: Counter[str] = Counter()
        for row in entry.allocations if entry else ():
            found[self._name(row.pool_id)] += row.room_replicas
        return found

    def serves(self, deployment_id: str) -> tuple[str, ...]:
        entry = self.entries.get(deployment_id)
        rows = entry.allocations if entry else ()
        return tuple(sorted({self._name(row.pool_id).split("/")[0] for row in rows if not row.standby}))

    def _name(self, pool_id: str) -> str:
        pool = self.problem.pool_by_id[pool_id]
        return f"{self.problem.cluster_by_id[pool.cluster_id].name}/{pool.name}"


def _deployment_diff(before: _Side, after: _Side, deployment_id: str) -> DeploymentDiff:
    wanted = (
        after.problem.deployment_by_id.get(deployment_id) or before.problem.deployment_by_id[deployment_id]
    )
    promises = before.promises.get(deployment_id), after.promises.get(deployment_id)
    entries = before.entries.get(deployment_id), after.entries.get(deployment_id)
    fell_before, fell_after = (set(promise.cannot_survive) if promise else set() for promise in promises)
    both = all(promises) and all(entry and entry.allocations for entry in entries)
    given_up, granted = _wishes(*entries, survives_less=bool(fell_after - fell_before))
    refusals = [entry.refusal if entry else None for entry in entries]
    refused_anew = refusals[1] is not None and (refusals[0] is None or refusals[0].rule != refusals[1].rule)
    return DeploymentDiff(
        deployment_id=deployment_id,
        deployment=wanted.name,
        moves=tuple(room_moves(before.rooms(deployment_id), after.rooms(deployment_id))),
        revision_before=_revision(entries[0]),
        revision_after=_revision(entries[1]),
        serves_before=before.serves(deployment_id),
        serves_after=after.serves(deployment_id),
        cost_before=before.costs.get(deployment_id, PlanCost()),
        cost_after=after.costs.get(deployment_id, PlanCost()),
        promise_kept_before=promises[0].kept if promises[0] else None,
        promise_kept_after=promises[1].kept if promises[1] else None,
        survives_no_more=_in_order(fell_after - fell_before) if both else (),
        survives_now=_in_order(fell_before - fell_after) if both else (),
        refused=refusals[1] if refused_anew else None,
        placed=refusals[0] is not None and entries[1] is not None and refusals[1] is None,
        given_up=given_up,
        granted=granted,
    )


def room_moves(before: Counter[str], after: Counter[str]) -> Iterator[Move]:
    """What one pool loses and another gains has moved; inside a cluster first, then by name."""
    stops = {pool: before[pool] - after[pool] for pool in sorted(before) if before[pool] > after[pool]}
    starts = {pool: after[pool] - before[pool] for pool in sorted(after) if after[pool] > before[pool]}
    for near in (True, False):
        for source, target in product(stops, starts):
            replicas = min(stops[source], starts[target])
            if replicas and (not near or source.split("/")[0] == target.split("/")[0]):
                stops[source] -= replicas
                starts[target] -= replicas
                yield Move(from_pool=source, to_pool=target, replicas=replicas)
    for pool, replicas in starts.items():
        if replicas:
            yield Move(from_pool="", to_pool=pool, replicas=replicas)
    for pool in sorted(after.keys() - before.keys()):
        if not after[pool]:
            yield Move(from_pool="", to_pool=pool, replicas=0)
    for pool, replicas in stops.items():
        if replicas:
            yield Move(from_pool=pool, to_pool="", replicas=replicas)
    for pool in sorted(before.keys() - after.keys()):
        if not before[pool]:
            yield Move(from_pool=pool, to_pool="", replicas=0)


def _wishes(
    before: DeploymentPlan | None, after: DeploymentPlan | None, *, survives_less: bool
) -> tuple[tuple[Refusal, ...], tuple[Refusal, ...]]:
    """Those given up, of survivability also what is left of it where that is less; and those granted."""
    was, now = ({wish.rule: wish for wish in entry.relaxed} if entry else {} for entry in (before, after))
    given_up = tuple(
        wish for rule, wish in now.items() if rule not in was or (rule == "survivability" and survives_less)
    )
    placed = after is not None and after.refusal is None
    return given_up, tuple(wish for rule, wish in was.items() if rule not in now) if placed else ()


def _revision(entry: DeploymentPlan | None) -> int | None:
    return max((row.revision for row in entry.allocations), default=None) if entry else None


def _in_order(domains: Iterable[FailureDomain]) -> tuple[FailureDomain, ...]:
    return tuple(sorted(domains, key=lambda domain: (domain.kind, domain.name)))


def _tells_something(diff: DeploymentDiff) -> bool:
    return bool(
        diff.moves
        or diff.refused
        or diff.placed
        or diff.given_up
        or diff.granted
        or diff.survives_no_more
        or diff.survives_now
        or diff.promise_kept_before != diff.promise_kept_after
        or diff.revision_before != diff.revision_after
        or diff.serves_before != diff.serves_after
        or abs(diff.spent_more_micro_usd_per_h) >= LEAST_MICRO_USD_PER_H
    )


def _urgency(diff: DeploymentDiff) -> tuple[bool, bool, bool, int, str]:
    money = -abs(diff.changed_micro_usd_per_h)
    return not diff.refused, not diff.promise_lost, not diff.given_up, money, diff.deployment


def _sum(costs: Iterable[PlanCost]) -> PlanCost:
    found = list(costs)
    return PlanCost(
        **{part.name: sum(getattr(cost, part.name) for cost in found) for part in fields(PlanCost)}
    )
