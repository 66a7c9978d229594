"""What a plan survives, domain by domain. Judges any plan from outside: own arithmetic, nothing of a solver.

For each deployment and each failure domain that carries a part of it (zones, regions, providers, and spot groups: spot
capacity of one instance type in one zone is reclaimed together): if that domain were lost this moment, what share of
the demand planned for could what is left serve? Where a loss must be survived only replicas that are kept ready count,
spot ones with their chance to live (decision 0021). A promise is kept if the whole demand is served and
``min_replicas`` are ready, with nothing lost and after each loss that the survivability covers. The hard rules are
judged too.

A certificate names, by hash, the problem and the plan that it is about, and has a hash of its own: whoever holds all
three can check that they belong together, and that ``certify`` says the same again.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import msgspec

from controlplane.placement.encoding import plan_sha256, problem_sha256
from controlplane.placement.judge.broken_rules import BrokenRule, broken_rules
from controlplane.placement.judge.promise_price import promise_price_micro_usd_per_h, rented_gpus_by_pool
from controlplane.placement.judge.standing import NOT_RECORDED, Left, Part, PlannedBy, Standing, Standings
from controlplane.placement.plan import DeploymentPlan, PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.supply import FailureDomain, LossKind
from controlplane.placement.wishes import Survivability
from workloadplane.words import counted

Verdict = Literal["survives", "degraded", "lost"]

#: What is judged, the narrowest first.
JUDGED: tuple[LossKind, ...] = ("spot_group", "zone", "region", "provider")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What the loss of one failure domain does to one deployment.

    requests_per_s, tokens_per_s: the demand planned for, 0 where none is known
    share_left:      capacity outside the domain, as a share of the demand planned for (may be above 1)
    replicas_needed: ``min_replicas``, 1 where that is 0
    replicas_left:   replicas that count outside the domain; spot ones as expected, hence not whole
    recovery_s:      cold start of what would replace the lost part: the longest among the deployment's own pools left;
                     where none is left, the shortest among pools that it could use. None where not measured
    promised:        whether the deployment's survivability covers this loss
    verdict:         ``survives``: all of the demand and of ``min_replicas``; ``lost``: nothing is left
    """

    deployment_id: str
    deployment: str
    domain: FailureDomain
    requests_per_s: float
    tokens_per_s: float
    share_left: float
    replicas_needed: int
    replicas_left: float
    recovery_s: float | None
    promised: bool
    verdict: Verdict

    @property
    def served_share(self) -> float:
        """What share of the demand would still be served."""
        return min(1.0, self.share_left)

    @property
    def margin_share(self) -> float:
        """Capacity beyond the demand planned for (negative: it lacks), as a share of that."""
        return self.share_left - 1

    @property
    def margin(self) -> float:
        """Replicas beyond those needed; negative: they lack."""
        return self.replicas_left - self.replicas_needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What one deployment was promised, and whether the plan keeps it.

    planned_by:     ``demand``, or ``min_replicas`` where no demand or no profile is known
    share:          capacity with nothing lost, as a share of the demand planned for; ``replicas`` likewise
    kept:           the demand is served with nothing lost and after every loss that is covered
    admitted:       rules by which the plan itself says that it does not keep it (relaxed, or refused)
    cannot_survive: losses after which not all of the demand is served, covered or not
    price_micro_usd_per_h: rent of what stands there only for the promise (``promise_price``)
    """

    deployment_id: str
    deployment: str
    survivability: Survivability
    planned_by: PlannedBy
    requests_per_s: float
    tokens_per_s: float
    share: float
    replicas: float
    replicas_needed: int
    kept: bool
    admitted: tuple[str, ...]
    cannot_survive: tuple[FailureDomain, ...]
    price_micro_usd_per_h: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainLoss:
    """What the loss of one failure domain does to all deployments together.

    served_share:   of all demand (p95 requests/s; where nobody has any, deployments count alike), what would be served
    served_share_now: the same with nothing lost
    touched:        deployments that have a part in it
    broken:         names of those that were promised to survive it and would not
    recovery_s:     the longest among those touched; None where one of them was not measured
    """

    domain: FailureDomain
    served_share: float
    served_share_now: float
    touched: int
    broken: tuple[str, ...]
    recovery_s: float | None


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Every loss that touches a deployment, every promise, and in words what the plan does not keep."""

    problem_sha256: str
    plan_sha256: str
    promises: tuple[Promise, ...]
    losses: tuple[Loss, ...]
    domains: tuple[DomainLoss, ...]
    broken_promises: tuple[str, ...]
    broken_rules: tuple[BrokenRule, ...]
    cannot_survive: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.broken_promises and not self.broken_rules

    @property
    def price_of_promises_micro_usd_per_h(self) -> int:
        """What stands there only for promises; errs high where deployments share a reservation."""
        return sum(promise.price_micro_usd_per_h for promise in self.promises)

    @cached_property
    def sha256(self) -> str:
        """Of everything that it says, the hashes of problem and plan included."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def certify(
    problem: PlacementProblem, plan: PlacementPlan, *, only: Collection[str] | None = None
) -> Certificate:
    """Judge ``plan`` against the problem it answers; of ``only`` these deployment ids, where they are given.

    Domains then sum up those deployments alone; rules are judged in the whole plan and shown where one of them has a
    part in it.
    Raises ValueError where the plan names a deployment or pool that the problem does not have.
    """
    _belong_together(problem, plan)
    known = Standings(problem)
    standings = {entry.deployment_id: known.of_entry(entry) for entry in plan.deployments}
    shown = [standings[key] for key in standings if only is None or key in only]
    rented_gpus = rented_gpus_by_pool(problem, plan)
    now = {standing.deployment.deployment_id: standing.left(()) for standing in shown}
    losses: list[Loss] = []
    promises: list[Promise] = []
    broken: list[str] = []
    for standing in shown:
        found = _losses(known, standing)
        losses.extend(found)
        said = tuple(_broken(standing, now[standing.deployment.deployment_id], found))
        broken.extend(said)
        price = promise_price_micro_usd_per_h(problem, standing, rented_gpus)
        left = now[standing.deployment.deployment_id]
        promises.append(_promise(standing, left, found, kept=not said, price_micro_usd_per_h=price))
    rules = broken_rules(known, plan, standings)
    ids = {standing.deployment.deployment_id for standing in shown}
    return Certificate(
        problem_sha256=problem_sha256(problem),
        plan_sha256=plan_sha256(plan),
        promises=tuple(promises),
        losses=tuple(losses),
        domains=_domain_losses(shown, now, losses),
        broken_promises=tuple(broken),
        broken_rules=tuple(rule for rule in rules if not ids.isdisjoint(rule.deployment_ids)),
        cannot_survive=tuple(_cannot_survive(losses)),
    )


def _belong_together(problem: PlacementProblem, plan: PlacementPlan) -> None:
    seen: set[str] = set()
    for entry in plan.deployments:
        if entry.deployment_id not in problem.deployment_by_id:
            raise ValueError(
                f"plan: deployment_id {entry.deployment_id} is not in the problem; give the problem it answers"
            )
        if entry.deployment_id in seen:
            raise ValueError(f"plan: deployment_id {entry.deployment_id} is there twice; give each once")
        seen.add(entry.deployment_id)
        for row in entry.allocations:
            if row.pool_id not in problem.pool_by_id:
                raise ValueError(
                    f"plan: pool_id {row.pool_id} is not in the problem; give the problem it answers"
                )


def _losses(known: Standings, standing: Standing) -> list[Loss]:
    """Of every judged domain that carries a part of it, and of domains that nobody recorded but that were promised."""
    touched = {
        domain
        for part in standing.parts
        for domain in part.domains
        if domain.kind in JUDGED and domain.name != NOT_RECORDED
    }
    kind = standing.deployment.survivability
    if kind != "none" and any(not part.cluster.domains(kind) for part in standing.parts):
        touched.add(FailureDomain(kind=kind, name=NOT_RECORDED))
    in_order = sorted(touched, key=lambda domain: (JUDGED.index(domain.kind), domain.name))
    return [_loss(known, standing, domain) for domain in in_order]


def _loss(known: Standings, standing: Standing, domain: FailureDomain) -> Loss:
    left = standing.left((domain,))
    verdict: Verdict = "degraded"
    if left.enough:
        verdict = "survives"
    elif left.replicas == 0:
        verdict = "lost"
    return Loss(
        deployment_id=standing.deployment.deployment_id,
        deployment=standing.deployment.name,
        domain=domain,
        requests_per_s=standing.requests_per_s,
        tokens_per_s=standing.tokens_per_s,
        share_left=left.share,
        replicas_needed=standing.replicas_needed,
        replicas_left=left.replicas,
        recovery_s=_recovery_s(known, standing, domain),
        promised=standing.promised(domain),
        verdict=verdict,
    )


def _recovery_s(known: Standings, standing: Standing, domain: FailureDomain) -> float | None:
    outside: list[Part] = [part for part in standing.parts if domain not in part.domains]
    if outside:
        return longest(part.cold_start_s for part in outside)
    return known.cold_start_elsewhere_s(standing.deployment, (domain,))


def longest(cold_starts_s: Iterable[float | None]) -> float | None:
    """None where one of them was not measured, or where there is none."""
    found = list(cold_starts_s)
    measured = [cold_start_s for cold_start_s in found if cold_start_s is not None]
    return max(measured) if measured and len(measured) == len(found) else None


def _promise(
    standing: Standing, now: Left, losses: Sequence[Loss], *, kept: bool, price_micro_usd_per_h: int
) -> Promise:
    return Promise(
        deployment_id=standing.deployment.deployment_id,
        deployment=standing.deployment.name,
        survivability=standing.deployment.survivability,
        planned_by=standing.planned_by,
        requests_per_s=standing.requests_per_s,
        tokens_per_s=standing.tokens_per_s,
        share=now.share,
        replicas=now.replicas,
        replicas_needed=standing.replicas_needed,
        kept=kept,
        admitted=admitted(standing.entry),
        cannot_survive=tuple(loss.domain for loss in losses if loss.verdict != "survives"),
        price_micro_usd_per_h=price_micro_usd_per_h,
    )


def admitted(entry: DeploymentPlan) -> tuple[str, ...]:
    """The rules by which a plan says of itself that it does not keep all that was wished."""
    refused = (entry.refusal.rule,) if entry.refusal is not None else ()
    return (*refused, *(refusal.rule for refusal in entry.relaxed))


def _broken(standing: Standing, now: Left, losses: Sequence[Loss]) -> Iterable[str]:
    name = standing.deployment.name
    if standing.entry.refusal is not None:
        yield f"{name}: not placed as wanted ({standing.entry.refusal.rule})"
    if not now.enough:
        has = _left_said(now.share, now.replicas, standing.replicas_needed, standing.planned_by)
        yield f"{name}: has {has}, with nothing lost"
    for loss in losses:
        if loss.promised and loss.verdict != "survives":
            left = _left_said(loss.share_left, loss.replicas_left, loss.replicas_needed, standing.planned_by)
            yield f"{name}: losing {loss.domain} leaves {left}"


def _left_said(share: float, replicas: float, needed: int, planned_by: PlannedBy) -> str:
    if planned_by == "demand" and share < 1:
        return f"capacity for {percent(share)} of the demand planned for"
    return f"{replicas:.3g} of {counted(needed, 'promised replica')}"


def percent(share: float) -> str:
    """Rounded down, so that ``100 %`` is all of it."""
    return f"{math.floor(share * 1000 + 1e-6) / 10:g} %"


def _cannot_survive(losses: Iterable[Loss]) -> Iterable[str]:
    """One line a deployment, also of what was never promised."""
    found: dict[str, list[str]] = defaultdict(list)
    for loss in losses:
        if loss.verdict != "survives":
            left = "nothing left" if loss.verdict == "lost" else f"{percent(loss.served_share)} left"
            found[loss.deployment].append(f"{loss.domain} ({left})")
    for deployment, said in found.items():
        yield f"{deployment} would not survive losing {', '.join(said)}"


def _domain_losses(
    shown: Sequence[Standing], now: Mapping[str, Left], losses: Iterable[Loss]
) -> tuple[DomainLoss, ...]:
    weights = {standing.deployment.deployment_id: standing.requests_per_s for standing in shown}
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1.0)
    total = sum(weights.values())
    served_now = sum(weight * min(1.0, now[key].share) for key, weight in weights.items())
    by_domain: dict[FailureDomain, list[Loss]] = defaultdict(list)
    for loss in losses:
        by_domain[loss.domain].append(loss)
    found = []
    for domain in sorted(by_domain, key=lambda domain: (JUDGED.index(domain.kind), domain.name)):
        touching = by_domain[domain]
        change = sum(
            weights[loss.deployment_id] * (loss.served_share - min(1.0, now[loss.deployment_id].share))
            for loss in touching
        )
        found.append(
            DomainLoss(
                domain=domain,
                served_share=(served_now + change) / total,
                served_share_now=served_now / total,
                touched=len(touching),
                broken=tuple(
                    loss.deployment for loss in touching if loss.promised and loss.verdict != "survives"
                ),
                recovery_s=longest(loss.recovery_s for loss in touching),
            )
        )
    return tuple(found)
