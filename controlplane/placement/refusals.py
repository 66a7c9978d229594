"""Why a deployment fits nowhere, and the smallest change that would make it fit.

The numbers in a remedy are tried before they are said: the same choice is made again as if they were done.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.placement.candidates import Candidate, candidates
from controlplane.placement.capacity import Ledger
from controlplane.placement.filters import lawful, open_to_new, suitable
from controlplane.placement.problem import PlacementProblem, Pool, WantedDeployment
from controlplane.placement.spread import Shape, domains_named, shape
from workloadplane.protocol.refusal import Refusal


def standby_refusal(deployment: WantedDeployment) -> Refusal | None:
    """One region serves, another must survive its loss: that needs a warm standby, which is not placed."""
    if deployment.posture == "active_active" or deployment.survivability == "none":
        return None
    return Refusal(
        rule="posture_standby",
        subject=f"deployment {deployment.name}",
        value=f"posture active_passive with survivability {deployment.survivability}",
        remedy="warm standby capacity is not placed: use posture active_active, or survivability none",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Where ``replicas`` of a deployment could go, in the room that ``ledger`` leaves beside what it holds itself."""

    problem: PlacementProblem
    deployment: WantedDeployment
    ledger: Ledger
    held: Mapping[str, int]
    replicas: int

    def candidates(self, more_instances: Mapping[str, int] | None = None) -> tuple[Candidate, ...]:
        return candidates(
            self.problem, self.deployment, self.ledger, self.held, more_instances=more_instances
        )

    def shape(self, *, most: int, more_instances: Mapping[str, int] | None = None) -> Shape | None:
        return shape(self.deployment, self.candidates(more_instances), self.replicas, most)

    def rejections(self, pool: Pool) -> tuple[Refusal, ...]:
        """Every rule by which a pool is out, however much room it has."""
        cluster = self.problem.cluster_by_id[pool.cluster_id]
        return (
            *lawful(self.deployment, pool, cluster),
            *suitable(self.deployment, pool, cluster),
            *open_to_new(self.deployment, pool, cluster),
        )


def refusal_of(question: Question) -> Refusal:
    """What stands in the way, asked in this order: rules, failure domains, the owner's bounds, capacity."""
    passing = [pool for pool in question.problem.pools if not question.rejections(pool)]
    if not passing:
        return _no_pool_passes(question)
    return (
        _too_few_domains(question, passing)
        or _bounds_too_tight(question)
        or _too_little_room(question, passing)
    )


def _no_pool_passes(question: Question) -> Refusal:
    """The pool that breaks the fewest rules says what is nearest to fitting."""
    subject = f"deployment {question.deployment.name}"
    pools = question.problem.pools
    if not pools:
        return Refusal(
            rule="no_pool",
            subject=subject,
            value="the organization has no pool",
            remedy="add a cluster and a pool",
        )
    rejected = [(question.rejections(pool), pool) for pool in pools]
    nearest, _ = min(rejected, key=lambda entry: (len(entry[0]), entry[1].cluster_id, entry[1].name))
    by_rule = Counter(refusal.rule for refusals, _ in rejected for refusal in refusals)
    counts = ", ".join(f"{rule} rejects {count}" for rule, count in sorted(by_rule.items()))
    return Refusal(
        rule=nearest[0].rule,
        subject=subject,
        value=f"no pool of {len(pools)} passes ({counts}); nearest is {nearest[0].subject}, {nearest[0].value}",
        remedy="; ".join(refusal.remedy for refusal in nearest),
    )


def _too_few_domains(question: Question, passing: list[Pool]) -> Refusal | None:
    deployment = question.deployment
    kind = deployment.survivability
    if kind == "none":
        return None
    clusters = question.problem.cluster_by_id
    names = sorted({name for pool in passing for name in clusters[pool.cluster_id].domains(kind)})
    if len(names) >= 2:
        return None
    where = f" in {', '.join(deployment.residency)}" if deployment.residency else ""
    return Refusal(
        rule="survivability",
        subject=f"deployment {deployment.name}",
        value=f"only one {kind} may carry it: {names[0]}",
        remedy=f"add capacity in a second {kind}{where}, or lower survivability",
    )


def _bounds_too_tight(question: Question) -> Refusal | None:
    """Surviving a loss takes spare replicas; the owner's maximum may not allow them."""
    deployment = question.deployment
    if deployment.survivability == "none":
        return None
    unbound = question.shape(most=2 * question.replicas)
    if unbound is None:
        return None
    needed = sum(unbound.values())
    return Refusal(
        rule="max_replicas",
        subject=f"deployment {deployment.name}",
        value=f"max_replicas {deployment.max_replicas}",
        remedy=(
            f"keeping {question.replicas} after the loss of any one {deployment.survivability} takes {needed} in all:"
            f" raise autoscaling.max_replicas to {needed}, or lower survivability"
        ),
    )


def _too_little_room(question: Question, passing: list[Pool]) -> Refusal:
    """Which one pool has to grow least."""
    deployment = question.deployment
    found = question.candidates()
    room = sum(candidate.limit for candidate in found)
    value = f"room for {room} of {question.replicas} replicas of {deployment.gpus_per_replica} GPUs"
    if deployment.survivability != "none":
        domains = ", ".join(domains_named(found)) or "none"
        value += f", of which any one {deployment.survivability} may be lost (room in: {domains})"
    offers = []
    for pool in passing:
        more = _instances_wanted(question, pool)
        if more is not None:
            offers.append((more, pool.instance_micro_usd_per_h or 0, pool.name, pool.pool_id, pool))
    if offers:
        more, _, _, _, pool = min(offers, key=lambda offer: offer[:4])
        cluster = question.problem.cluster_by_id[pool.cluster_id]
        remedy = (
            f"add {more} {pool.instance_type} ({more * pool.gpus_per_instance} {pool.gpu_type}) to pool"
            f" {cluster.name}/{pool.name}, or lower min_replicas"
        )
    else:
        places = "clusters" if deployment.survivability == "none" else f"{deployment.survivability}s"
        remedy = f"no single pool would do: add capacity in several {places}, or lower min_replicas"
    return Refusal(rule="pool_capacity", subject=f"deployment {deployment.name}", value=value, remedy=remedy)


def _instances_wanted(question: Question, pool: Pool) -> int | None:
    """The fewest instances by which this one pool must grow, or None where that would not do however many."""
    most = min(question.deployment.max_replicas, 2 * question.replicas)

    def would_fit(more: int) -> bool:
        return question.shape(most=most, more_instances={pool.pool_id: more}) is not None

    low, high = 1, most
    if not would_fit(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if would_fit(middle):
            high = middle
        else:
            low = middle + 1
    return low
