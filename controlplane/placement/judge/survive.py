"""What if this were lost? What a plan would still serve, and what would have to start, if domains were lost together.

Any zones, regions, providers, spot groups, clusters and pools at once. Counts as the certificate does (the loss of one
domain leaves the same here as there), with the rest of the plan as it is: what a new plan would do is not asked here.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from controlplane.placement.judge.certificate import Verdict, longest
from controlplane.placement.judge.standing import TOLERANCE, Left, Part, Standing, Standings
from controlplane.placement.plan import PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.supply import FailureDomain

#: So many known names are told to somebody who gave an unknown one.
NAMES_TOLD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginSurvival:
    """What one origin region asks of a deployment (p95), and the share of it that would be served."""

    origin_region: str
    requests_per_s: float
    tokens_per_s: float
    served_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Replicas that would start in a pool (``cluster/pool``); ``cold_start_s`` is None where it was not measured."""

    pool_id: str
    pool: str
    replicas: int
    cold_start_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSurvival:
    """What the loss does to one deployment that has a part in what is lost.

    share_now, share_left: capacity as a share of the demand planned for, before and after
    promoted:        the cluster whose standby takes over; empty where none does
    origins:         origin by origin, what would be served; empty where no demand is known
    starts:          what would start in its own pools that are left, as far as maxima and free GPUs allow, to serve the
                     demand again
    share_restored:  capacity when all of that has started; below 1 it takes a new plan
    recovery_s:      until then: 0 where nothing has to start, None where a cold start was not measured or where even
                     all starts do not serve the demand
    """

    deployment_id: str
    deployment: str
    verdict: Verdict
    share_now: float
    share_left: float
    replicas_lost: int
    replicas_left: float
    replicas_needed: int
    promoted: str
    origins: tuple[OriginSurvival, ...]
    starts: tuple[Start, ...]
    share_restored: float
    recovery_s: float | None

    @property
    def served_share(self) -> float:
        return min(1.0, self.share_left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """What all deployments together would go through.

    deployments:   those that have a part in what is lost, the worst served first; ``untouched`` counts the others
    served_share:  of all demand (p95 requests/s; where nobody has any, deployments count alike), what would be served
    served_share_now: the same with nothing lost
    recovery_s:    until every deployment serves its demand again; None where one of them cannot tell
    """

    lost: tuple[FailureDomain, ...]
    deployments: tuple[DeploymentSurvival, ...]
    untouched: int
    served_share: float
    served_share_now: float
    recovery_s: float | None


def survive(
    problem: PlacementProblem,
    plan: PlacementPlan,
    lost: tuple[FailureDomain, ...],
    *,
    only: Collection[str] | None = None,
) -> Survival:
    """What ``plan`` would still serve without ``lost``; told of ``only`` these deployment ids, where they are given.

    Raises ValueError where nothing of the problem is in one of ``lost``.
    """
    known = Standings(problem)
    _exist(known, lost)
    standings = [known.of_entry(entry) for entry in plan.deployments]
    free = _free_instances(known, plan, lost)
    in_order = sorted(
        standings,
        key=lambda one: (-one.deployment.priority, one.deployment.created_at_s, one.deployment.name),
    )
    found: dict[str, DeploymentSurvival] = {}
    for standing in in_order:
        if any(not part.domains.isdisjoint(lost) for part in standing.parts):
            found[standing.deployment.deployment_id] = _survival(known, standing, lost, free)
    shown = [one for one in standings if only is None or one.deployment.deployment_id in only]
    touched = [found[one.deployment.deployment_id] for one in shown if one.deployment.deployment_id in found]
    served_now, served = _served(shown, found)
    return Survival(
        lost=lost,
        deployments=tuple(sorted(touched, key=lambda one: (one.share_left, one.deployment))),
        untouched=len(shown) - len(touched),
        served_share=served,
        served_share_now=served_now,
        recovery_s=longest(one.recovery_s for one in touched) if touched else 0.0,
    )


def _exist(known: Standings, lost: Iterable[FailureDomain]) -> None:
    there = {domain for domains in known.domains_by_pool.values() for domain in domains}
    for domain in lost:
        if domain not in there:
            kind = domain.kind.replace("_", " ")
            names = sorted(one.name for one in there if one.kind == domain.kind)
            more = f" and {len(names) - NAMES_TOLD} more" if len(names) > NAMES_TOLD else ""
            raise ValueError(
                f"lost: there is no {kind} {domain.name}; known are: {', '.join(names[:NAMES_TOLD]) or 'none'}{more}"
            )


def _free_instances(
    known: Standings, plan: PlacementPlan, lost: Collection[FailureDomain]
) -> dict[str, float]:
    """By pool id, the instances that no room and nothing on its way out takes; a replica takes its share of one."""
    free: dict[str, float] = {}
    for pool in known.problem.pools:
        gone = pool.closed or not known.domains_by_pool[pool.pool_id].isdisjoint(lost)
        free[pool.pool_id] = 0.0 if gone else float(pool.capacity_instances)
    rooms = [
        (row.pool_id, row.gpus_per_replica, row.room_replicas)
        for entry in plan.deployments
        for row in entry.allocations
    ]
    outgoing = [(row.pool_id, row.gpus_per_replica, row.replicas) for row in known.problem.occupancies]
    for pool_id, gpus, replicas in (*rooms, *outgoing):
        free[pool_id] -= replicas * _instance_share(known.problem, pool_id, gpus)
    return free


def _instance_share(problem: PlacementProblem, pool_id: str, gpus_per_replica: int) -> float:
    return 1 / max(1, problem.pool_by_id[pool_id].gpus_per_instance // gpus_per_replica)


def _survival(
    known: Standings, standing: Standing, lost: tuple[FailureDomain, ...], free: dict[str, float]
) -> DeploymentSurvival:
    now, left, serving = standing.left(()), standing.left(lost), standing.serving(lost)
    starts, restored = _starts(known, standing, serving, left, free)
    verdict: Verdict = "survives" if left.enough else "lost" if left.replicas == 0 else "degraded"
    recovery_s: float | None = None
    if left.enough:
        recovery_s = 0.0
    elif restored.enough:
        recovery_s = longest(start.cold_start_s for start in starts)
    promoted = {part.cluster.name for part in serving if part.allocation.standby}
    return DeploymentSurvival(
        deployment_id=standing.deployment.deployment_id,
        deployment=standing.deployment.name,
        verdict=verdict,
        share_now=now.share,
        share_left=left.share,
        replicas_lost=sum(part.replicas for part in standing.parts if not part.domains.isdisjoint(lost)),
        replicas_left=left.replicas,
        replicas_needed=standing.replicas_needed,
        promoted=", ".join(sorted(promoted)),
        origins=_origins(known, standing, serving),
        starts=starts,
        share_restored=restored.share,
        recovery_s=recovery_s,
    )


def _starts(
    known: Standings, standing: Standing, serving: Sequence[Part], left: Left, free: dict[str, float]
) -> tuple[tuple[Start, ...], Left]:
    """The quickest pools first; what starts takes its room from ``free``. Also what is left when all have started."""
    share, replicas = left.share, left.replicas
    starts = []
    for part in sorted(serving, key=_quickest):
        lacking = max(
            (1 - TOLERANCE - share) / (part.share_each * part.chance) if part.share_each else 0.0,
            (standing.replicas_needed - TOLERANCE - replicas) / part.chance,
        )
        row = part.allocation
        each = _instance_share(known.problem, row.pool_id, row.gpus_per_replica)
        roomed = max(0, row.room_replicas - part.replicas)
        possible = roomed + max(0, math.floor(free[row.pool_id] / each + TOLERANCE))
        count = min(math.ceil(lacking), possible, row.max_replicas - part.replicas)
        if count <= 0:
            continue
        free[row.pool_id] -= max(0, count - roomed) * each
        share += count * part.chance * part.share_each
        replicas += count * part.chance
        starts.append(
            Start(
                pool_id=row.pool_id,
                pool=f"{part.cluster.name}/{part.pool.name}",
                replicas=count,
                cold_start_s=part.cold_start_s,
            )
        )
    enough = share >= 1 - TOLERANCE and replicas >= standing.replicas_needed - TOLERANCE
    return tuple(starts), Left(share, replicas, enough)


def _quickest(part: Part) -> tuple[bool, float, str, str]:
    return part.cold_start_s is None, part.cold_start_s or 0.0, part.cluster.name, part.pool.name


def _origins(known: Standings, standing: Standing, serving: Iterable[Part]) -> tuple[OriginSurvival, ...]:
    """Each origin stays where the plan sends it, for as much as that cluster can serve; what finds no place there, or
    whose cluster is lost, shares what the other clusters have left, pro rata."""
    demands = known.origins(standing.deployment.deployment_id)
    parts_of_demand = _parts_of_demand([(row.requests_per_s_p95, row.tokens_per_s_p95) for row in demands])
    room: dict[str, float] = defaultdict(float)
    for part in serving:
        room[part.cluster.cluster_id] += part.share
    sent: dict[tuple[str, str], float] = defaultdict(float)
    part_of = dict(zip((row.origin_region for row in demands), parts_of_demand, strict=True))
    for traffic in standing.entry.traffic:
        sent[traffic.origin_region, traffic.cluster_id] += (
            part_of.get(traffic.origin_region, 0.0) * traffic.share
        )
    served = _served_at_home(sent, room)
    waiting = {origin: max(0.0, part - served[origin]) for origin, part in part_of.items()}
    spare = max(0.0, sum(room.values()) - sum(served.values()))
    taken = min(1.0, spare / sum(waiting.values())) if sum(waiting.values()) > 0 else 0.0
    return tuple(
        OriginSurvival(
            origin_region=row.origin_region,
            requests_per_s=row.requests_per_s_p95,
            tokens_per_s=row.tokens_per_s_p95,
            served_share=min(
                1.0,
                (served[row.origin_region] + waiting[row.origin_region] * taken) / part_of[row.origin_region],
            ),
        )
        for row in demands
    )


def _served_at_home(sent: Mapping[tuple[str, str], float], room: Mapping[str, float]) -> dict[str, float]:
    """By origin, the part of all demand that is served where the plan sends it."""
    asked: dict[str, float] = defaultdict(float)
    for (_, cluster_id), part in sent.items():
        asked[cluster_id] += part
    served: dict[str, float] = defaultdict(float)
    for (origin, cluster_id), part in sent.items():
        served[origin] += part * min(1.0, room.get(cluster_id, 0.0) / asked[cluster_id]) if part else 0.0
    return served


def _parts_of_demand(rates: Sequence[tuple[float, float]]) -> list[float]:
    """Each origin's part of the whole: by requests, by tokens where not all count requests, else alike."""
    for measure in (0, 1):
        if rates and all(rate[measure] > 0 for rate in rates):
            total = sum(rate[measure] for rate in rates)
            return [rate[measure] / total for rate in rates]
    return [1 / len(rates) for _ in rates]


def _served(shown: Iterable[Standing], found: Mapping[str, DeploymentSurvival]) -> tuple[float, float]:
    """Of all demand the share that is served now, and after the loss."""
    standings = list(shown)
    by_requests = any(standing.requests_per_s for standing in standings)
    total = now = after = 0.0
    for standing in standings:
        weight = standing.requests_per_s if by_requests else 1.0
        share_now = min(1.0, standing.left(()).share)
        survival = found.get(standing.deployment.deployment_id)
        total += weight
        now += weight * share_now
        after += weight * (share_now if survival is None else survival.served_share)
    return (now / total, after / total) if total else (1.0, 1.0)
