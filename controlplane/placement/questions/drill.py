"""What would a drill touch, and what does the certificate promise for it?"""

from collections import defaultdict
from dataclasses import dataclass

from controlplane.placement.judge.certificate import Loss, certify
from controlplane.placement.judge.standing import Part, Standing, Standings
from controlplane.placement.plan import PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.supply import FailureDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """One deployment with a part in a domain.

    replicas, replicas_there: for which room is kept, in all and in the domain
    traffic_share:  of its traffic, what the plan serves in the domain
    serving_there:  of an ``active_passive`` one: whether its serving cluster may be in the domain
    micro_usd_per_h_there: rent of its rooms in the domain
    loss:           what the certificate says of losing the domain
    """

    deployment_id: str
    deployment: str
    project_id: str
    replicas: int
    replicas_there: int
    traffic_share: float
    serving_there: bool
    micro_usd_per_h_there: int
    loss: Loss


def blast_radius(
    problem: PlacementProblem, plan: PlacementPlan, domain: FailureDomain
) -> tuple[Touched, ...]:
    """Every deployment that a drill of this domain touches, the most traffic first."""
    known = Standings(problem)
    losses = {loss.deployment_id: loss for loss in certify(problem, plan).losses if loss.domain == domain}
    found = [
        _touched(known, known.of_entry(entry), domain, losses[entry.deployment_id])
        for entry in plan.deployments
        if entry.deployment_id in losses
    ]
    return tuple(sorted(found, key=lambda one: (-one.traffic_share, one.deployment)))


def _touched(known: Standings, standing: Standing, domain: FailureDomain, loss: Loss) -> Touched:
    there = [part for part in standing.parts if domain in part.domains]
    rooms = sum(part.allocation.room_replicas for part in standing.parts)
    rooms_there = sum(part.allocation.room_replicas for part in there)
    is_pair = standing.deployment.posture == "active_passive"
    return Touched(
        deployment_id=standing.deployment.deployment_id,
        deployment=standing.deployment.name,
        project_id=standing.deployment.project_id,
        replicas=rooms,
        replicas_there=rooms_there,
        traffic_share=_traffic_share(known, standing, there, rooms_there / rooms if rooms else 0.0),
        serving_there=is_pair and any(not part.allocation.standby for part in there),
        micro_usd_per_h_there=sum(part.allocation.micro_usd_per_h for part in there),
        loss=loss,
    )


def _traffic_share(known: Standings, standing: Standing, there: list[Part], otherwise: float) -> float:
    """By origin, as the plan sends it; where it sends nothing by origin, as the replicas stand."""
    cluster_ids = {part.cluster.cluster_id for part in there}
    weights: dict[str, float] = {
        row.origin_region: row.requests_per_s_p95 or row.tokens_per_s_p95
        for row in known.origins(standing.deployment.deployment_id)
    }
    sent: dict[bool, float] = defaultdict(float)
    for row in standing.entry.traffic:
        sent[row.cluster_id in cluster_ids] += row.share * weights.get(row.origin_region, 1.0)
    total = sent[True] + sent[False]
    return sent[True] / total if total else otherwise
