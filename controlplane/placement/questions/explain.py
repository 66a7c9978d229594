"""Why each pool was taken or not: worked out on demand from a stored problem and its plan."""

from dataclasses import dataclass, replace

from controlplane.costing import usd_printed
from controlplane.placement.greedy.candidates import Market, Terms
from controlplane.placement.plan import Allocation, DeploymentPlan, PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.capacity import Ledger
from controlplane.placement.rules.cost import leaving_micro_usd_per_h
from controlplane.placement.rules.filters import lawful, open_to_new, suitable
from controlplane.placement.rules.needs import LEVELS, index_of, kept
from controlplane.placement.rules.traffic import region_costs, too_far
from controlplane.placement.supply import Pool
from controlplane.placement.wishes import WantedDeployment
from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReason:
    """One pool's part in one deployment's plan: an allocation, or the reason why there is none."""

    pool_id: str
    pool: str
    cluster: str
    allocation: Allocation | None
    refusal: Refusal | None


def room_left(problem: PlacementProblem, plan: PlacementPlan) -> Ledger:
    """What all rooms of a plan leave in each pool."""
    ledger = Ledger(problem.pools)
    for entry in plan.deployments:
        for row in entry.allocations:
            ledger.add(row.pool_id, row.gpus_per_replica, row.room_replicas)
    return ledger


def explain(
    problem: PlacementProblem, plan: PlacementPlan, deployment_id: str, *, room: Ledger | None = None
) -> tuple[PoolReason, ...]:
    """A reason for every pool of the problem. ``room`` is ``room_left``, for those who explain many deployments.

    Raises KeyError where the plan has no such deployment.
    """
    entry = plan.by_deployment[deployment_id]
    case = _Case(problem, problem.deployment_by_id[deployment_id], entry, room or room_left(problem, plan))
    chosen = {row.pool_id: row for row in entry.allocations}
    reasons = []
    for pool in problem.pools:
        allocation = chosen.get(pool.pool_id)
        reasons.append(
            PoolReason(
                pool_id=pool.pool_id,
                pool=pool.name,
                cluster=problem.cluster_by_id[pool.cluster_id].name,
                allocation=allocation,
                refusal=None if allocation else case.why_not(pool),
            )
        )
    return tuple(reasons)


class _Case:
    """One deployment and what it got, and why it got nothing elsewhere."""

    def __init__(
        self, problem: PlacementProblem, deployment: WantedDeployment, entry: DeploymentPlan, room: Ledger
    ) -> None:
        self.problem, self.deployment, self.entry, self.room = problem, deployment, entry, room
        self.index = index_of(problem)
        self.terms = {one.pool.pool_id: one for one in Market(self.index).terms(deployment)}
        self.held = {row.pool_id for row in problem.current_of(deployment.deployment_id)}

    def why_not(self, pool: Pool) -> Refusal:
        """The first reason against a pool: rules, then profile, latency and room, then what it would cost."""
        cluster = self.problem.cluster_by_id[pool.cluster_id]
        for rules in (lawful, suitable, open_to_new):
            refusals = rules(self.deployment, pool, cluster)
            if refusals:
                return refusals[0]
        needs = self.index.needs(self.deployment)
        if needs.served > 0 and needs.share(pool) == 0:
            return self._said(
                pool,
                "profile_unknown",
                f"nobody measured what a replica does on {pool.instance_type}",
                "add a performance profile of this model version on it",
            )
        if too_far(self.problem, self.deployment, cluster):
            return self._said(
                pool,
                "latency",
                f"further from all its clients than {self.deployment.slo.ttft_s_p95} s",
                "raise slo.ttft_s_p95, or add capacity nearer to them",
            )
        room = self.room.headroom(pool.pool_id, self.deployment.gpus_per_replica)
        if room == 0:
            empty = pool.capacity_instances == 0
            return self._said(
                pool,
                "pool_capacity",
                "the pool has no instance"
                if empty
                else f"no room for {counted(self.deployment.gpus_per_replica, 'more GPU')} in one instance",
                "enlarge the pool"
                if empty
                else "enlarge the pool, or lower another deployment's min_replicas",
            )
        return self._priced_out(pool, room)

    def _priced_out(self, pool: Pool, room: int) -> Refusal:
        """It could have been used: what that would have cost beside the dearest replica that was chosen."""
        here = self.terms[pool.pool_id]
        value = f"{usd_printed(here.rented)} USD/h a replica, room for {room}"
        chosen = [row for row in self.entry.allocations if row.pool_id in self.terms]
        if not chosen:
            return self._said(
                pool, "not_needed", value, "lower what the deployment asks for: what it gets is said above"
            )
        billed = [row for row in chosen if row.marginal_micro_usd_per_h > 0]
        if not billed:
            return self._said(
                pool,
                "not_needed",
                f"{value}; what was chosen is paid for already",
                "raise min_replicas or survivability to use it",
            )
        dearest = max(billed, key=lambda row: self._worth(self.terms[row.pool_id]))
        there = self.terms[dearest.pool_id]
        saved = round(there.rented - here.rented)
        if saved <= 0:
            dearer = f", {usd_printed(-saved)} USD/h dearer than what was chosen" if saved else ""
            return self._said(
                pool,
                "not_needed",
                value + dearer,
                "what runs already and cheaper room is used first; raise min_replicas or survivability to use it",
            )
        value = f"{usd_printed(saved)} USD/h cheaper a replica than {self._named(there)}"
        return (
            self._breaks_a_promise(pool, dearest, value)
            or self._costs_more_in_all(pool, value)
            or self._runs_elsewhere(pool, dearest, value)
            or self._said(
                pool, "not_needed", value, "the next full solve may use it: what was chosen was enough"
            )
        )

    def _breaks_a_promise(self, pool: Pool, dearest: Allocation, value: str) -> Refusal | None:
        """One of the dearest replicas here instead: which loss would then take too much?"""
        level = self.deployment.survivability
        now = kept(self.index, self.deployment, self.entry.allocations)
        moved = replace(
            dearest,
            pool_id=pool.pool_id,
            min_replicas=min(1, dearest.min_replicas),
            planned_replicas=min(1, dearest.planned_replicas),
        )
        less = replace(
            dearest,
            min_replicas=max(0, dearest.min_replicas - 1),
            planned_replicas=max(0, dearest.planned_replicas - 1),
            max_replicas=dearest.max_replicas - 1,
        )
        rows = [less if row is dearest else row for row in self.entry.allocations] + [moved]
        if level == "none" or LEVELS.index(kept(self.index, self.deployment, rows)) >= LEVELS.index(now):
            return None
        kind = now if now != "none" else level
        names = self.problem.cluster_by_id[pool.cluster_id].domains(kind)
        inside = sum(
            row.room_replicas
            for row in self.entry.allocations
            if set(self.terms[row.pool_id].cluster.domains(kind) if row.pool_id in self.terms else ())
            & set(names)
        )
        total = sum(row.room_replicas for row in self.entry.allocations)
        why = f"{kind} {', '.join(names)} carries {inside} of {total} already"
        if not inside:
            why = (
                f"{pool.procurement} counts {self.terms[pool.pool_id].survival:.2f} of a replica after a loss"
            )
        return self._said(pool, "survivability", f"{value}, refused: {why}", f"lower survivability: {kind}")

    def _costs_more_in_all(self, pool: Pool, value: str) -> Refusal | None:
        here = self.terms[pool.pool_id]
        if self._worth(here) < max(
            self._worth(self.terms[row.pool_id])
            for row in self.entry.allocations
            if row.pool_id in self.terms
        ):
            return None
        extra = round(here.new - here.rented + self._traffic(here))
        return self._said(
            pool,
            "not_needed",
            f"{value}, refused: serving less, being interrupted, late and far away costs more"
            f" ({usd_printed(extra)} USD/h a replica)",
            "nothing need be done; raise min_replicas or survivability to use it",
        )

    def _runs_elsewhere(self, pool: Pool, dearest: Allocation, value: str) -> Refusal | None:
        if dearest.pool_id not in self.held:
            return None
        there = self.terms[dearest.pool_id].pool
        leaving = leaving_micro_usd_per_h(
            self.problem, self.deployment, there, self.deployment.gpus_per_replica
        )
        return self._said(
            pool,
            "not_worth_moving",
            f"{value}, refused: what runs moves only for {self.problem.weights.hysteresis:g} times what that costs"
            f" ({usd_printed(leaving)} USD/h)",
            "wait for the next full solve, or drain the pool where it runs",
        )

    def _worth(self, terms: Terms) -> float:
        """What a replica costs in all, for each part of the demand that it serves."""
        needs = self.index.needs(self.deployment)
        share = needs.share(terms.pool) if needs.served > 0 else 1.0
        cost = (terms.held if terms.pool.pool_id in self.held else terms.new) + self._traffic(terms)
        return cost / min(1.0, share) if share > 0 else float("inf")

    def _traffic(self, terms: Terms) -> float:
        needs, region = self.index.needs(self.deployment), terms.cluster.region
        costs = region_costs(self.problem, self.deployment, (region,))
        return costs.get(region, 0.0) * min(1.0, needs.share(terms.pool))

    def _named(self, terms: Terms) -> str:
        return f"{terms.cluster.name}/{terms.pool.name}"

    def _said(self, pool: Pool, rule: str, value: str, remedy: str) -> Refusal:
        cluster = self.problem.cluster_by_id[pool.cluster_id]
        return Refusal(rule=rule, subject=f"pool {cluster.name}/{pool.name}", value=value, remedy=remedy)
