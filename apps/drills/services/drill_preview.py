"""What a drill would touch, and what the certificate promises for it. Writes nothing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings

from apps.api.actors import Actor
from apps.api.problems import Problem, field_problem
from apps.deployments import selectors as deployments
from apps.deployments.models import Deployment
from apps.placements import selectors as placements
from apps.placements.models import PlacementPlan
from controlplane.failover import METHODS, NOTHING_LOST, DrillPromise, takes_capacity
from controlplane.placement import FailureDomain, PlacementProblem, plan_decode, problem_decode
from controlplane.placement.judge.standing import domains_of
from controlplane.placement.questions.drill import Touched, blast_radius
from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted

NAMES_TOLD = 50


@dataclass(frozen=True)
class DrillPreview:
    """Stated before anything is touched.

    touched:  deployments that the drill may be felt by, the drilled one first; by weights it is that one alone
    broken:   of them, those that would not be served whole
    """

    deployment: Deployment
    stored: PlacementPlan
    touched: tuple[Touched, ...]
    promise: DrillPromise
    broken: tuple[Refusal, ...]
    cluster_ids: tuple[str, ...]
    regions: tuple[str, ...]

    @property
    def idle_micro_usd_per_h(self) -> int:
        """Rent of what serves nothing meanwhile."""
        return (
            sum(one.micro_usd_per_h_there for one in self.touched)
            if self.promise.basis == "certificate"
            else 0
        )

    def blast(self) -> dict[str, Any]:
        """As it is stored and told; of other projects only how many."""
        own = [one for one in self.touched if one.project_id == str(self.deployment.project_id)]
        return {
            "clusters": len(self.cluster_ids),
            "regions": list(self.regions),
            "deployments": [
                {
                    "deployment": one.deployment,
                    "replicas": one.replicas,
                    "replicas_there": one.replicas_there,
                    "traffic_share": one.traffic_share,
                    "verdict": one.loss.verdict,
                }
                for one in own
            ],
            "others": len(self.touched) - len(own),
        }


def drill_preview(*, actor: Actor, kind: str, target: str, deployment: str, method: str) -> DrillPreview:
    """By the newest plan. Raises Problem ``invalid_document``, ``not_found``, ``refused``."""
    _method_check(kind, method)
    row = deployments.deployment_get(actor=actor, name=deployment)
    stored = placements.plan_get(actor=actor, plan_generation="latest")
    problem, plan = problem_decode(stored.problem), plan_decode(stored.plan)
    if kind == "lose-control-plane":
        if target:
            raise field_problem(
                "/target", "is given though there is one control plane", remedy="leave it out"
            )
        promise = _with_regions(NOTHING_LOST, problem, row)
        return DrillPreview(row, stored, (), promise, (), (), ())
    domain = FailureDomain(kind="provider" if kind == "lose-provider" else "region", name=target)
    clusters = _clusters_in(problem, domain)
    touched = blast_radius(problem, plan, domain)
    own = [one for one in touched if one.deployment_id == str(row.pk)]
    if not own:
        remedy = "choose a place that it runs in; `meridian deployments` shows where that is"
        raise field_problem("/target", f"{deployment} has no part in {domain}", value=target, remedy=remedy)
    told = tuple(own) if method == "weights" else (*own, *(one for one in touched if one not in own))
    loss = own[0].loss
    promise = NOTHING_LOST
    if takes_capacity(kind):  # type: ignore[arg-type]
        promise = DrillPromise(
            basis="certificate",
            promised=loss.promised,
            served_share=loss.served_share,
            margin_share=loss.margin_share,
            recovery_s=loss.recovery_s,
        )
    _pair_check(own[0], method)
    return DrillPreview(
        deployment=row,
        stored=stored,
        touched=told,
        promise=_with_regions(promise, problem, row),
        broken=_broken(told, row) if takes_capacity(kind) else (),  # type: ignore[arg-type]
        cluster_ids=tuple(sorted(cluster_id for cluster_id, _ in clusters)),
        regions=tuple(sorted({region for _, region in clusters})),
    )


def risk_check(preview: DrillPreview, *, accept_risk: bool) -> None:
    """Raises Problem ``refused`` where the certificate says that somebody would not be served whole."""
    if accept_risk or not preview.broken:
        return
    said = "; ".join(f"{one.subject} {one.value}" for one in preview.broken[:3])
    raise Problem(
        "refused",
        f"refused: {said}; {preview.broken[0].remedy}, or set accept_risk (--accept-risk) to go on all the same",
        refusals=preview.broken,
    )


def _method_check(kind: str, method: str) -> None:
    allowed = METHODS[kind]  # type: ignore[index]
    if method not in allowed:
        remedy = f"give one of: {', '.join(allowed)}"
        raise field_problem("/method", f"does not fit {kind}", value=method, remedy=remedy)
    if method == "faults" and not settings.MERIDIAN_FAULTS:
        refusal = Refusal(
            rule="faults_in_production",
            subject="method",
            value=method,
            remedy="drill by weights, or rehearse this one on the system of `make up`",
        )
        raise Problem(
            "refused",
            f"refused: nothing is broken in a production system: {refusal.remedy}",
            refusals=[refusal],
        )


def _pair_check(own: Touched, method: str) -> None:
    if method != "weights" or not own.serving_there:
        return
    refusal = Refusal(
        rule="one_serves",
        subject=f"deployment {own.deployment}",
        value="active_passive",
        remedy="drain the place instead: its standby is promoted before anything stops",
    )
    detail = (
        f"refused: {refusal.subject} is served by one cluster alone, which may be there: {refusal.remedy}"
    )
    raise Problem("refused", detail, refusals=[refusal])


def _clusters_in(problem: PlacementProblem, domain: FailureDomain) -> list[tuple[str, str]]:
    """(id, region) of the clusters with a pool in it."""
    by_id = {pool.cluster_id: pool for pool in problem.pools}
    places = {
        cluster_id: set(domains_of(pool, problem.cluster_by_id[cluster_id]))
        for cluster_id, pool in by_id.items()
    }
    found = [
        (cluster_id, problem.cluster_by_id[cluster_id].region)
        for cluster_id, domains in places.items()
        if domain in domains
    ]
    if not found:
        known = sorted(
            {one.name for domains in places.values() for one in domains if one.kind == domain.kind}
        )
        remedy = f"known are: {', '.join(known[:NAMES_TOLD]) or 'none'}"
        raise field_problem(
            "/target", f"is no {domain.kind} with a pool", value=domain.name[:80], remedy=remedy
        )
    return found


def _with_regions(promise: DrillPromise, problem: PlacementProblem, row: Deployment) -> DrillPromise:
    inside = {
        cluster.region for cluster in problem.cluster_by_id.values() if cluster.jurisdiction in row.residency
    }
    return DrillPromise(**{**asdict(promise), "regions": tuple(sorted(inside)) if row.residency else ()})


def _broken(touched: Sequence[Touched], row: Deployment) -> tuple[Refusal, ...]:
    return tuple(
        Refusal(
            rule="survivability",
            subject=f"deployment {one.deployment}"
            if one.project_id == str(row.project_id)
            else "a deployment of another project",
            value=f"would be served for {100 * one.loss.served_share:.1f} % of its demand,"
            f" with {one.loss.replicas_left:.3g} of {counted(one.loss.replicas_needed, 'replica')}",
            remedy="give it a survivability that covers this loss and the capacity for it",
        )
        for one in touched
        if one.loss.verdict != "survives"
    )
