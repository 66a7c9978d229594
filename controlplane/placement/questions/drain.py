"""What would be left if this were emptied: is anything promised now that would not be kept then?

``drained`` is the world in which regions, clusters or pools are being emptied; placement is given that world for as
long as a drain lasts. ``drain_check`` solves it beforehand, judges that plan and the one in force by their
certificates, and says for whom something would become worse than both its promise and the present.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from controlplane.placement.greedy.events import to_place_anew
from controlplane.placement.greedy.solver import resolve
from controlplane.placement.judge.certificate import (
    JUDGED,
    Certificate,
    Loss,
    Promise,
    admitted,
    certify,
    percent,
)
from controlplane.placement.judge.standing import TOLERANCE, Standings, domains_of
from controlplane.placement.plan import DeploymentPlan, PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.questions.what_if import in_force
from controlplane.placement.supply import FailureDomain, Pool
from controlplane.placement.wishes import WantedDeployment
from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """A domain that is being emptied.

    risk_accepted: what finds no other place stops all the same
    instances:     only so many of each pool in it go, as with a node; None: all
    """

    domain: FailureDomain
    risk_accepted: bool = False
    instances: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Replicas (rooms) of one deployment in one jurisdiction, now and after the drain."""

    deployment_id: str
    deployment: str
    jurisdiction: str
    replicas_now: int
    replicas_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """What one deployment would lack. ``refusal`` names it, what it would be left with and where, and the remedy."""

    deployment_id: str
    project_id: str
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Replicas of a deployment that have to start in a pool before others may go; ``cold_start_s`` None: unknown."""

    deployment_id: str
    model_version_id: str
    pool_id: str
    replicas: int
    cold_start_s: float | None


@dataclass(frozen=True, kw_only=True)
class DrainCheck:
    """``replicas``: those in the pools concerned. ``kept``: of deployments with a part in what is emptied."""

    replicas: int
    kept: tuple[Kept, ...]
    arrivals: tuple[Arrival, ...]
    shortfalls: tuple[Shortfall, ...]


def pool_ids_in(problem: PlacementProblem, domain: FailureDomain) -> frozenset[str]:
    """Pools that lie in a domain: in a region, cluster, or ``cluster/pool`` itself."""
    return frozenset(
        pool.pool_id
        for pool in problem.pools
        if domain in domains_of(pool, problem.cluster_by_id[pool.cluster_id])
    )


def drained(problem: PlacementProblem, drains: Iterable[Drained]) -> PlacementProblem:
    """The problem in which these are being emptied: no room is there for any plan, and what runs is to leave."""
    by_pool: dict[str, list[Drained]] = defaultdict(list)
    for drain in drains:
        for pool_id in pool_ids_in(problem, drain.domain):
            by_pool[pool_id].append(drain)
    if not by_pool:
        return problem
    return replace(
        problem,
        pools=tuple(
            _without(pool, by_pool[pool.pool_id]) if pool.pool_id in by_pool else pool
            for pool in problem.pools
        ),
    )


def _without(pool: Pool, drains: Collection[Drained]) -> Pool:
    """A pool of which all goes, or some of its machines."""
    whole = [drain for drain in drains if drain.instances is None]
    if not whole:
        fewer = sum(drain.instances or 0 for drain in drains)
        return replace(pool, capacity_instances=max(0, pool.capacity_instances - fewer))
    return replace(
        pool,
        capacity_instances=0,
        closed=f"{whole[0].domain} is being drained",
        leaving=not any(drain.risk_accepted for drain in whole),
    )


def drain_check(problem: PlacementProblem, stored: PlacementPlan | None, drain: Drained) -> DrainCheck:
    """What placement would make of the problem if that were emptied. ``stored`` is the newest adopted plan.

    Raises ValueError where nothing of the problem is in it.
    """
    domain = drain.domain
    leaving = pool_ids_in(problem, domain)
    if not leaving:
        raise ValueError(f"nothing is in {domain}; name a {domain.kind} that has a pool")
    now = in_force(problem, stored)
    without = drained(problem, (replace(drain, risk_accepted=False),))
    after = resolve(without, now, to_place_anew(now, problem, without))
    gone = {row.deployment_id for row in problem.current if row.pool_id in leaving}
    verdicts = certify(problem, now, only=gone), certify(without, after, only=gone)
    judged = [row for row in problem.deployments if row.deployment_id in gone]
    return DrainCheck(
        replicas=sum(row.room_replicas for row in problem.current if row.pool_id in leaving),
        kept=tuple(kept for row in judged for kept in _kept(problem, row, now, after)),
        arrivals=tuple(_arrivals(without, gone, now, after)),
        shortfalls=tuple(_shortfalls(without, judged, (now, after), verdicts)),
    )


def _kept(
    problem: PlacementProblem, wanted: WantedDeployment, now: PlacementPlan, after: PlacementPlan
) -> Iterator[Kept]:
    before = _by_jurisdiction(problem, now.by_deployment[wanted.deployment_id])
    then = _by_jurisdiction(problem, after.by_deployment[wanted.deployment_id])
    for jurisdiction in sorted(before.keys() | then.keys()):
        yield Kept(
            deployment_id=wanted.deployment_id,
            deployment=wanted.name,
            jurisdiction=jurisdiction,
            replicas_now=before.get(jurisdiction, 0),
            replicas_after=then.get(jurisdiction, 0),
        )


def _by_jurisdiction(problem: PlacementProblem, entry: DeploymentPlan) -> Mapping[str, int]:
    found: dict[str, int] = defaultdict(int)
    for row in entry.allocations:
        cluster = problem.cluster_by_id[problem.pool_by_id[row.pool_id].cluster_id]
        found[cluster.jurisdiction] += row.room_replicas
    return found


def _arrivals(
    problem: PlacementProblem, deployment_ids: Collection[str], now: PlacementPlan, after: PlacementPlan
) -> Iterator[Arrival]:
    known = Standings(problem)
    for deployment_id in sorted(deployment_ids):
        held = {row.pool_id: row.room_replicas for row in now.by_deployment[deployment_id].allocations}
        for part in known.of(after, deployment_id).parts:
            more = part.allocation.room_replicas - held.get(part.pool.pool_id, 0)
            if more > 0:
                yield Arrival(
                    deployment_id=deployment_id,
                    model_version_id=problem.deployment_by_id[deployment_id].model_version_id,
                    pool_id=part.pool.pool_id,
                    replicas=more,
                    cold_start_s=part.cold_start_s,
                )


def _shortfalls(
    problem: PlacementProblem,
    judged: Iterable[WantedDeployment],
    plans: tuple[PlacementPlan, PlacementPlan],
    verdicts: tuple[Certificate, Certificate],
) -> Iterator[Shortfall]:
    promises = [{row.deployment_id: row for row in verdict.promises} for verdict in verdicts]
    losses: list[dict[str, list[Loss]]] = []
    for verdict in verdicts:
        found: dict[str, list[Loss]] = defaultdict(list)
        for loss in verdict.losses:
            if loss.promised:
                found[loss.deployment_id].append(loss)
        losses.append(found)
    for wanted in judged:
        key = wanted.deployment_id
        entries = tuple(plan.by_deployment[key] for plan in plans)
        said = (
            _short_now(promises[0][key], promises[1][key])
            or _short_after_a_loss(losses[0][key], losses[1][key])
            or _given_up(entries[0], entries[1])
        )
        if said:
            rule, value = said
            refusal = Refusal(
                rule=rule,
                subject=f"deployment {wanted.name}",
                value=value.format(where=_where(problem, wanted, entries)),
                remedy=_remedy(entries[1]),
            )
            yield Shortfall(deployment_id=key, project_id=wanted.project_id, refusal=refusal)


def _short_now(before: Promise, after: Promise) -> tuple[str, str] | None:
    """With nothing lost it would serve less than is promised and than it does."""
    if after.replicas <= TOLERANCE:
        return ("nowhere", "with nothing in {where}") if before.replicas > TOLERANCE else None
    if after.planned_by == "demand" and _worse(before.share, after.share, 1.0):
        return "capacity", f"with capacity for {percent(after.share)} of its demand in {{where}}"
    if _worse(before.replicas, after.replicas, before.replicas_needed):
        return (
            "capacity",
            f"with {after.replicas:.3g} of {counted(after.replicas_needed, 'promised replica')} in {{where}}",
        )
    return None


def _short_after_a_loss(before: Collection[Loss], after: Collection[Loss]) -> tuple[str, str] | None:
    """Some loss that it is to survive would leave less than is promised, and than any such loss leaves it now."""
    if not after:
        return None
    worst = min(after, key=lambda loss: (loss.replicas_left, -JUDGED.index(loss.domain.kind)))
    now = min((loss.replicas_left for loss in before), default=worst.replicas_needed)
    left = f"{worst.replicas_left:.3g} of {counted(worst.replicas_needed, 'promised replica')}"
    if not _worse(now, worst.replicas_left, worst.replicas_needed):
        worst = min(after, key=lambda loss: (loss.share_left, -JUDGED.index(loss.domain.kind)))
        left = f"capacity for {percent(worst.share_left)} of its demand"
        if not _worse(min((loss.share_left for loss in before), default=1.0), worst.share_left, 1.0):
            return None
    return "survivability", f"under N+1 in {{where}}: losing {worst.domain} would then leave {left}"


def _worse(before: float, after: float, enough: float) -> bool:
    return after < min(before, enough) - TOLERANCE


def _given_up(before: DeploymentPlan, after: DeploymentPlan) -> tuple[str, str] | None:
    """A wish that placement keeps now and would have to give up."""
    for refusal in (*((after.refusal,) if after.refusal else ()), *after.relaxed):
        if refusal.rule not in admitted(before):
            value = refusal.value.replace("{", "{{").replace("}", "}}")
            return refusal.rule, f"without one of its wishes in {{where}} ({value})"
    return None


def _where(problem: PlacementProblem, wanted: WantedDeployment, entries: Iterable[DeploymentPlan]) -> str:
    """Jurisdictions that may serve it: by its residency, or else where it is and would be."""
    names = set(wanted.residency)
    if not names:
        names = {name for entry in entries for name in _by_jurisdiction(problem, entry)}
    return f"jurisdiction{'s' if len(names) > 1 else ''} {', '.join(sorted(names)) or 'none'}"


def _remedy(entry: DeploymentPlan) -> str:
    """What placement tried and found to be enough, where it gave something up."""
    refusals = (*((entry.refusal,) if entry.refusal else ()), *entry.relaxed)
    return refusals[0].remedy if refusals else "add capacity elsewhere"
