"""What if the world were otherwise? A problem with something changed in it, to be solved like any other.

Each kind of change is a frozen value; ``applied`` gives the problem in which it has happened, or a ``Refusal`` where
it names what is not there. What is lost keeps its row with no capacity, so that a plan from before can still be read
beside one from after, and every pool still has its reason.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from controlplane.placement.checks import RowError
from controlplane.placement.judge.standing import domains_of
from controlplane.placement.plan import Allocation, DeploymentPlan, PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.cost import priced
from controlplane.placement.supply import CurrentAssignment, FailureDomain, Pool, Reservation
from controlplane.placement.wishes import Demand, Survivability, WantedDeployment
from workloadplane.protocol.refusal import Refusal

#: What the pools that are lost say of themselves.
LOST = "it is lost, in this question"
#: So many known names are told to somebody who gave an unknown one.
_NAMES_TOLD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What fails together is gone, with all that runs there."""

    domain: FailureDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceChanged:
    """An instance of a pool (``cluster/pool``) costs this; reserved ones stay at their reservation's price."""

    pool: str
    instance_micro_usd_per_h: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityChanged:
    """A pool (``cluster/pool``) has so many instances."""

    pool: str
    capacity_instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolAdded:
    """A pool more. A reserved one is paid for whole, at its price."""

    pool: Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandScaled:
    """The known demand of these deployments is so many times what it is."""

    deployment_ids: frozenset[str]
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentChanged:
    """A deployment wants something else; None leaves a wish as it is."""

    deployment_id: str
    survivability: Survivability | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None


Change = Lost | PriceChanged | CapacityChanged | PoolAdded | DemandScaled | DeploymentChanged


def applied(problem: PlacementProblem, change: Change) -> PlacementProblem | Refusal:
    """The problem in which ``change`` has happened. What no problem may say (``checks``) is refused too."""
    try:
        return _APPLIERS[type(change)](problem, change)
    except RowError as error:
        return out_of_range(error)


def out_of_range(error: RowError) -> Refusal:
    """What somebody is told whose change no problem may say. Whose demand it is and how much stays untold: it may be
    another project's."""
    if isinstance(error.row, Demand):
        return Refusal(
            rule="out_of_range",
            subject="demand",
            value="a demand so many times as large is out of what can be planned for",
            remedy="give a factor nearer to 1",
        )
    value, _, remedy = str(error).partition("; ")
    return Refusal(rule="out_of_range", subject="what if", value=value, remedy=remedy)


def _lost(problem: PlacementProblem, change: Lost) -> PlacementProblem | Refusal:
    domains_by_pool = {
        pool.pool_id: domains_of(pool, problem.cluster_by_id[pool.cluster_id]) for pool in problem.pools
    }
    lost = {pool_id for pool_id, domains in domains_by_pool.items() if change.domain in domains}
    if lost:
        return _without_pools(problem, lost)
    kind = change.domain.kind
    known = {one.name for domains in domains_by_pool.values() for one in domains if one.kind == kind}
    return _unknown(kind.replace("_", " "), change.domain.name, known)


def _without_pools(problem: PlacementProblem, pool_ids: Collection[str]) -> PlacementProblem:
    """What ran there is gone, so nothing of it is kept and leaving it costs nothing."""
    return replace(
        problem,
        pools=tuple(
            replace(pool, closed=LOST, capacity_instances=0) if pool.pool_id in pool_ids else pool
            for pool in problem.pools
        ),
        current=tuple(row for row in problem.current if row.pool_id not in pool_ids),
        occupancies=tuple(row for row in problem.occupancies if row.pool_id not in pool_ids),
        reservations=tuple(row for row in problem.reservations if row.pool_id not in pool_ids),
    )


def _price_changed(problem: PlacementProblem, change: PriceChanged) -> PlacementProblem | Refusal:
    return _pool_replaced(problem, change.pool, instance_micro_usd_per_h=change.instance_micro_usd_per_h)


def _capacity_changed(problem: PlacementProblem, change: CapacityChanged) -> PlacementProblem | Refusal:
    return _pool_replaced(problem, change.pool, capacity_instances=change.capacity_instances)


def _pool_replaced(problem: PlacementProblem, name: str, **fields: Any) -> PlacementProblem | Refusal:
    named = _pool_named(problem, name)
    if isinstance(named, Refusal):
        return named
    pools = tuple(replace(pool, **fields) if pool is named else pool for pool in problem.pools)
    return replace(problem, pools=pools)


def _pool_added(problem: PlacementProblem, change: PoolAdded) -> PlacementProblem | Refusal:
    name = pool_name(problem, change.pool)
    if any(pool_name(problem, pool) == name for pool in problem.pools):
        return Refusal(
            rule="name_taken",
            subject=f"pool {name}",
            value="there is one already",
            remedy="choose another name, or change that one's price or capacity",
        )
    reservations = problem.reservations
    if change.pool.procurement == "reserved":
        paid = Reservation(
            pool_id=change.pool.pool_id,
            instances=change.pool.capacity_instances,
            instance_micro_usd_per_h=change.pool.instance_micro_usd_per_h or 0,
        )
        reservations = (*reservations, paid)
    return replace(problem, pools=(*problem.pools, change.pool), reservations=reservations)


def _demand_scaled(problem: PlacementProblem, change: DemandScaled) -> PlacementProblem | Refusal:
    factor = change.factor
    demands = tuple(
        replace(
            row,
            requests_per_s_p50=row.requests_per_s_p50 * factor,
            requests_per_s_p95=row.requests_per_s_p95 * factor,
            tokens_per_s_p50=row.tokens_per_s_p50 * factor,
            tokens_per_s_p95=row.tokens_per_s_p95 * factor,
        )
        if row.deployment_id in change.deployment_ids
        else row
        for row in problem.demands
    )
    if demands == problem.demands and factor != 1:
        return Refusal(
            rule="demand_unknown",
            subject="demand",
            value="none is known, so there is nothing to multiply",
            remedy="change min_replicas instead",
        )
    return replace(problem, demands=demands)


def _deployment_changed(problem: PlacementProblem, change: DeploymentChanged) -> PlacementProblem | Refusal:
    wanted = problem.deployment_by_id[change.deployment_id]
    least = wanted.min_replicas if change.min_replicas is None else change.min_replicas
    most = wanted.max_replicas if change.max_replicas is None else change.max_replicas
    if not (least <= most and most >= 1):
        return Refusal(
            rule="bounds",
            subject=f"deployment {wanted.name}",
            value=f"min_replicas {least} and max_replicas {most}",
            remedy="give 0 <= min_replicas <= max_replicas, and max_replicas of 1 or more",
        )
    changed = replace(
        wanted,
        survivability=change.survivability or wanted.survivability,
        min_replicas=least,
        max_replicas=most,
    )
    rows = tuple(changed if row is wanted else row for row in problem.deployments)
    return replace(problem, deployments=rows)


#: mypy can't tie a key to its function's second argument.
_APPLIERS: Mapping[type, Callable[[PlacementProblem, Any], PlacementProblem | Refusal]] = {
    Lost: _lost,
    PriceChanged: _price_changed,
    CapacityChanged: _capacity_changed,
    PoolAdded: _pool_added,
    DemandScaled: _demand_scaled,
    DeploymentChanged: _deployment_changed,
}


def pool_name(problem: PlacementProblem, pool: Pool) -> str:
    """A pool as people name it: ``cluster/pool``."""
    return f"{problem.cluster_by_id[pool.cluster_id].name}/{pool.name}"


def _pool_named(problem: PlacementProblem, name: str) -> Pool | Refusal:
    by_name = {pool_name(problem, pool): pool for pool in problem.pools}
    return by_name.get(name) or _unknown("pool", name, by_name)


def _unknown(kind: str, name: str, known: Iterable[str]) -> Refusal:
    names = sorted(known)
    told = ", ".join(names[:_NAMES_TOLD]) or "none"
    more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
    return Refusal(
        rule="unknown_name",
        subject=f"{kind} {name}",
        value=f"there is no {kind} of this name",
        remedy=f"known are {told}{more}",
    )


def in_force(problem: PlacementProblem, stored: PlacementPlan | None) -> PlacementPlan:
    """What runs now, as a plan for ``problem``: its assignments at its prices.

    ``stored`` is the newest plan that was adopted: of the deployments that still are, its words (reasons, traffic,
    refusals, what was relaxed) are taken over.
    """
    said = stored.by_deployment if stored else {}
    entries = tuple(
        _entry_in_force(problem, wanted, said.get(wanted.deployment_id)) for wanted in problem.deployments
    )
    return priced(problem, PlacementPlan(deployments=entries, micro_usd_per_h=0, marginal_micro_usd_per_h=0))


def _entry_in_force(
    problem: PlacementProblem, wanted: WantedDeployment, said: DeploymentPlan | None
) -> DeploymentPlan:
    reasons = {(row.revision_id, row.pool_id): row.reasons for row in said.allocations} if said else {}
    return DeploymentPlan(
        deployment_id=wanted.deployment_id,
        generation=wanted.generation,
        allocations=tuple(
            _allocation_in_force(row, reasons.get((row.revision_id, row.pool_id), ()))
            for row in problem.current_of(wanted.deployment_id)
        ),
        traffic=said.traffic if said else (),
        refusal=said.refusal if said else None,
        relaxed=said.relaxed if said else (),
    )


def _allocation_in_force(row: CurrentAssignment, reasons: tuple[str, ...]) -> Allocation:
    return Allocation(
        revision_id=row.revision_id,
        revision=row.revision,
        pool_id=row.pool_id,
        min_replicas=row.min_replicas,
        max_replicas=row.max_replicas,
        gpus_per_replica=row.gpus_per_replica,
        micro_usd_per_h=0,
        marginal_micro_usd_per_h=0,
        reasons=reasons,
        planned_replicas=row.planned_replicas,
        standby=row.standby,
    )
