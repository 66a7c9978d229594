"""Why a deployment fits nowhere, or not with all that it wishes, and the smallest change that would make it fit.

The numbers in a remedy are tried before they are said: the same choice is made again as if they were done.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.costing import usd_exact
from controlplane.placement.greedy.ladder import Choice, Question, Rung, budget_micro_usd_per_h, fits
from controlplane.placement.rules.filters import lawful, open_to_new, suitable
from controlplane.placement.rules.needs import TOLERANCE
from controlplane.placement.rules.traffic import too_far
from controlplane.placement.supply import Pool
from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted

#: More than any deployment has: what it would take if ``max_replicas`` did not bound it.
UNBOUNDED = 1_000_000_000

_GIVEN_WAY = "; its spare went to another deployment that needs it more"


@dataclass(frozen=True, slots=True)
class _Reason:
    rule: str
    value: str
    remedy: str


def refusal_of(question: Question) -> Refusal:
    """What stands in the way of the least that could be granted: a place at all."""
    return _said(question, _reason(question, Rung(level="none", near=False)))


def relaxed_of(question: Question, choice: Choice, *, given_way: bool = False) -> tuple[Refusal, ...]:
    """The wishes that a choice does not keep, in the order in which they were given up.

    ``given_way``: its spare went to another deployment. Which one is not said: it may be another project's.
    """
    deployment, rung = question.deployment, choice.rung
    found = []
    if 0 < question.market.index.needs(deployment).served < 1 - TOLERANCE:
        found.append(_bounded_demand(question))
    if rung.level != deployment.survivability:
        reason = _reason(question, Rung(level=deployment.survivability, near=True))
        instead = "none" if rung.level == "none" else f"only {rung.level}"
        value = f"survives {instead} instead of {deployment.survivability}: {reason.value}"
        value += _GIVEN_WAY if given_way else ""
        found.append(_said(question, _Reason("survivability", value, reason.remedy)))
    if not rung.near:
        reason = _reason(question, Rung(level="none", near=True))
        value = f"further from its clients than its TTFT target: {reason.value}"
        found.append(_said(question, _Reason("latency", value, reason.remedy)))
    if not choice.whole:
        reason = _reason(question, Rung(level="none", near=False))
        value = (
            f"{counted(sum(choice.serving.values()), 'replica')} instead of what is asked for: {reason.value}"
        )
        found.append(_said(question, _Reason("replicas", value, reason.remedy)))
    return tuple(found)


def says_given_way(relaxed: Iterable[Refusal]) -> bool:
    """Whether wishes given up are said to have been so for another deployment."""
    return any(wish.rule == "survivability" and wish.value.endswith(_GIVEN_WAY) for wish in relaxed)


def rejections(question: Question, pool: Pool) -> tuple[Refusal, ...]:
    """Every rule by which a pool is out, however much room it has."""
    cluster = question.problem.cluster_by_id[pool.cluster_id]
    return (
        *lawful(question.deployment, pool, cluster),
        *suitable(question.deployment, pool, cluster),
        *open_to_new(question.deployment, pool, cluster),
    )


def _said(question: Question, reason: _Reason) -> Refusal:
    return Refusal(
        rule=reason.rule,
        subject=f"deployment {question.deployment.name}",
        value=reason.value,
        remedy=reason.remedy,
    )


def _reason(question: Question, rung: Rung) -> _Reason:
    """Asked in this order: rules, failure domains, the budget, the owner's bounds, capacity."""
    passing = [pool for pool in question.problem.pools if not rejections(question, pool)]
    if not passing:
        return _no_pool_passes(question)
    clusters = question.problem.cluster_by_id
    if rung.near:
        passing = [
            pool
            for pool in passing
            if not too_far(question.problem, question.deployment, clusters[pool.cluster_id])
        ]
    if not passing:
        return _Reason(
            "latency",
            f"every cluster is further than {question.deployment.slo.ttft_s_p95} s from all its clients",
            "add capacity nearer to them, or raise slo.ttft_s_p95",
        )
    return (
        _too_few_domains(question, rung, passing)
        or _budget_too_small(question, rung)
        or _bounds_too_tight(question, rung)
        or _too_little_room(question, rung, passing)
    )


def _no_pool_passes(question: Question) -> _Reason:
    """The pool that breaks the fewest rules says what is nearest to fitting; one that was closed on purpose last."""
    pools = question.problem.pools
    if not pools:
        return _Reason("no_pool", "the organization has no pool", "add a cluster and a pool")
    rejected = [(rejections(question, pool), pool) for pool in pools]
    clusters = question.problem.cluster_by_id
    nearest, _ = min(
        rejected,
        key=lambda entry: (
            len(entry[0]),
            entry[1].closed != "",
            clusters[entry[1].cluster_id].name,
            entry[1].name,
        ),
    )
    by_rule = Counter(refusal.rule for refusals, _ in rejected for refusal in refusals)
    counts = ", ".join(f"{count} by {rule.replace('_', ' ')}" for rule, count in sorted(by_rule.items()))
    return _Reason(
        nearest[0].rule,
        f"no pool of {len(pools)} passes (out are {counts}); nearest is {nearest[0].subject}, {nearest[0].value}",
        "; ".join(refusal.remedy for refusal in nearest),
    )


def _too_few_domains(question: Question, rung: Rung, passing: list[Pool]) -> _Reason | None:
    deployment, kind = question.deployment, rung.level
    if kind == "none":
        return None
    clusters = question.problem.cluster_by_id
    names = sorted({name for pool in passing for name in clusters[pool.cluster_id].domains(kind)})
    if len(names) >= 2:
        return None
    where = f" in {', '.join(deployment.residency)}" if deployment.residency else ""
    return _Reason(
        "survivability",
        f"only one {kind} may carry it: {names[0]}",
        f"add capacity in a second {kind}{where}, or lower survivability",
    )


def _budget_too_small(question: Question, rung: Rung) -> _Reason | None:
    if question.money_left is None:
        return None
    choice = fits(question.unpaid(), rung)
    if choice is None:
        return None
    deployment = question.deployment
    price = sum(
        replicas
        * budget_micro_usd_per_h(
            question.problem, question.problem.pool_by_id[pool_id], deployment.gpus_per_replica
        )
        for places in (choice.serving, choice.standby)
        for pool_id, replicas in places.items()
    )
    (budget,) = (row for row in question.problem.budgets if row.project_id == deployment.project_id)
    spent = budget.micro_usd_per_h - question.money_left
    return _Reason(
        "budget",
        f"{usd_exact(price)} USD/h on top of {usd_exact(spent)}",
        f"the project may spend {usd_exact(budget.micro_usd_per_h)} USD/h:"
        f" raise the budget to {usd_exact(spent + price)}, or lower min_replicas",
    )


def _bounds_too_tight(question: Question, rung: Rung) -> _Reason | None:
    """Surviving a loss takes spare replicas; the owner's maximum may not allow them."""
    deployment = question.deployment
    unbound = fits(question.bounded_by(UNBOUNDED), rung)
    if unbound is None:
        return _none_to_spare(question) if rung.level != "none" else None
    needed = sum(unbound.serving.values()) + sum(unbound.standby.values())
    if needed <= deployment.max_replicas:
        return None
    why = f"the loss of any one {rung.level}" if rung.level != "none" else "its demand"
    return _Reason(
        "max_replicas",
        f"max_replicas {deployment.max_replicas}",
        f"{why} takes {needed} in all:"
        f" raise autoscaling.max_replicas to {needed}, or lower {_lowered(rung, 'min_replicas')}",
    )


def _none_to_spare(question: Question) -> _Reason | None:
    """What the owner allows does not serve the demand with nothing lost; nor is there room for more."""
    if not 0 < question.market.index.needs(question.deployment).served < 1 - TOLERANCE:
        return None
    remedy = "raise autoscaling.max_replicas and add the capacity for it, or lower survivability"
    return _Reason("max_replicas", f"{_part_served(question)}, so none is to spare", remedy)


def _part_served(question: Question) -> str:
    part = question.market.index.needs(question.deployment).served
    return f"max_replicas {question.deployment.max_replicas} serve {part:.0%} of the demand"


def _bounded_demand(question: Question) -> Refusal:
    """The demand takes more replicas than the owner allows: how many would serve it."""
    deployment = question.deployment
    rung = Rung(level=deployment.survivability, near=True)
    unbound = fits(question.bounded_by(UNBOUNDED), rung)
    remedy = "raise autoscaling.max_replicas, and add the capacity for it"
    if unbound is not None:
        needed = sum(unbound.serving.values()) + sum(unbound.standby.values())
        remedy = f"raise autoscaling.max_replicas to {needed}"
    return _said(question, _Reason("max_replicas", _part_served(question), remedy))


def _lowered(rung: Rung, otherwise: str) -> str:
    return "survivability" if rung.level != "none" else otherwise


def _too_little_room(question: Question, rung: Rung, passing: list[Pool]) -> _Reason:
    """Which one pool has to grow least."""
    deployment = question.deployment
    slots = [slot for slot in question.slots() if not (rung.near and slot.far)]
    room = sum(slot.replicas for slot in slots)
    gpus = deployment.gpus_per_replica
    value = f"room for {counted(room, 'replica')} of {counted(gpus, 'GPU')}"
    if rung.level != "none":
        names = sorted({name for slot in slots for name in slot.terms.cluster.domains(rung.level)})
        value += f", of which any one {rung.level} may be lost (room in: {', '.join(names) or 'none'})"
    found: tuple[int, Pool] | None = None
    for pool in sorted(
        passing, key=lambda pool: (pool.instance_micro_usd_per_h or 0, pool.name, pool.pool_id)
    ):
        most = deployment.max_replicas if found is None else found[0] - 1
        more = _instances_wanted(question, rung, pool, most)
        if more is not None:
            found = (more, pool)
    if found is None:
        places = "clusters" if rung.level == "none" else f"{rung.level}s"
        remedy = f"no single pool would do: add capacity in several {places}, or lower "
        return _Reason("pool_capacity", value, remedy + _lowered(rung, "min_replicas"))
    more, pool = found
    cluster = question.problem.cluster_by_id[pool.cluster_id]
    return _Reason(
        "pool_capacity",
        value,
        f"add {more} {pool.instance_type} ({more * pool.gpus_per_instance} {pool.gpu_type}) to pool"
        f" {cluster.name}/{pool.name}, or lower {_lowered(rung, 'min_replicas')}",
    )


def _instances_wanted(question: Question, rung: Rung, pool: Pool, most: int) -> int | None:
    """The fewest instances, ``most`` at most, by which this one pool must grow; None where that would not do."""

    def would_fit(more: int) -> bool:
        return fits(question.grown(pool.pool_id, more), rung) is not None

    low, high = 1, most
    if high < 1 or not would_fit(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if would_fit(middle):
            high = middle
        else:
            low = middle + 1
    return low
