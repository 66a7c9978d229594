"""Our plans beside other systems' policies: the same problem, the same demand, the same promises, the same prices.

What a policy does not serve in full (or, with promises, does not keep) is taken out of the problem, and ours is solved
anew for what is left: so both serve the same deployments, and nobody is cheaper by serving less.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median

from controlplane.placement import PlacementPlan, PlacementProblem, certify, plan_cost
from tests.benchmarks.placement.policies import POLICIES

Ours = Callable[[PlacementProblem], PlacementPlan]


@dataclass(frozen=True, slots=True)
class Match:
    """One policy on one instance.

    left_out:      deployments that it does not serve in full
    broken:        of those left, how many have their promise broken by the certificate
    rules_broken:  hard rules that the whole plan breaks (budgets, which these systems do not know)
    *_saving_pct:  per cent by which ours is cheaper, of everything that a plan costs, and of the bill alone
    """

    left_out: int
    broken: int
    rules_broken: int
    saving_pct: float
    bill_saving_pct: float


def without_promises(problem: PlacementProblem) -> PlacementProblem:
    """The same deployments, none of which must survive a loss."""
    return replace(
        problem, deployments=tuple(replace(one, survivability="none") for one in problem.deployments)
    )


def matches(problem: PlacementProblem, ours: Ours, *, survive: bool) -> Mapping[str, Match]:
    """Every policy on this problem. With ``survive`` a plan must keep what was promised, by the certificate."""
    if not survive:
        problem = without_promises(problem)
    return {
        name: _match(problem, policy(problem, survive=survive), ours) for name, policy in POLICIES.items()
    }


def _match(problem: PlacementProblem, theirs: PlacementPlan, ours: Ours) -> Match:
    served = {entry.deployment_id for entry in theirs.deployments if entry.refusal is None}
    certificate = certify(problem, theirs)
    kept = {
        promise.deployment_id
        for promise in certificate.promises
        if promise.kept and promise.deployment_id in served
    }
    smaller, theirs = only(problem, theirs, kept)
    plan = ours(smaller)
    own, other = plan_cost(smaller, plan), plan_cost(smaller, theirs)
    return Match(
        left_out=len(problem.deployments) - len(served),
        broken=len(served - kept),
        rules_broken=len(certificate.broken_rules),
        saving_pct=_saving_pct(own.total_micro_usd_per_h, other.total_micro_usd_per_h),
        bill_saving_pct=_saving_pct(own.rent_micro_usd_per_h, other.rent_micro_usd_per_h),
    )


def only(
    problem: PlacementProblem, plan: PlacementPlan, deployment_ids: set[str]
) -> tuple[PlacementProblem, PlacementPlan]:
    """Problem and plan of these deployments alone: the others are gone, with all that they held."""
    smaller = replace(
        problem,
        deployments=tuple(one for one in problem.deployments if one.deployment_id in deployment_ids),
        current=tuple(row for row in problem.current if row.deployment_id in deployment_ids),
        occupancies=tuple(row for row in problem.occupancies if row.deployment_id in deployment_ids),
        demands=tuple(row for row in problem.demands if row.deployment_id in deployment_ids),
    )
    entries = tuple(entry for entry in plan.deployments if entry.deployment_id in deployment_ids)
    return smaller, replace(plan, deployments=entries)


def _saving_pct(own: int, other: int) -> float:
    return 100 * (other - own) / max(1, other)


def figures(found: list[Match]) -> dict[str, float]:
    """One policy's row: medians over instances, and the worst."""
    return {
        "left_out": median(match.left_out for match in found),
        "broken": median(match.broken for match in found),
        "rules_broken": median(match.rules_broken for match in found),
        "saving_pct": median(match.saving_pct for match in found),
        "least_saving_pct": min(match.saving_pct for match in found),
        "bill_saving_pct": median(match.bill_saving_pct for match in found),
        "least_bill_saving_pct": min(match.bill_saving_pct for match in found),
        "dearer": sum(match.saving_pct < 0 for match in found),
    }
