"""What placement would make of the fleet without a part of it. Writes nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.agents import selectors as agents
from apps.api.actors import Actor, system_actor
from apps.api.problems import Problem, field_problem
from apps.drains import selectors
from apps.placements import selectors as placements
from apps.placements.services import placement_load
from controlplane.failover import expected_s
from controlplane.placement import FailureDomain, PlacementProblem, plan_decode
from controlplane.placement.judge.standing import domains_of
from controlplane.placement.questions.drain import DrainCheck, drain_check
from workloadplane.protocol.refusal import Refusal

NAMES_TOLD = 50


@dataclass(frozen=True)
class Preview:
    """The check, and how long the move would take (None: a cold start is not known)."""

    check: DrainCheck
    expected_s: float | None
    project_id_by_deployment: Mapping[str, str]

    def own_deployment_ids(self, actor: Actor) -> set[str]:
        """Of those in the check, the deployments whose names this actor may know."""
        return {
            deployment_id
            for deployment_id, project_id in self.project_id_by_deployment.items()
            if actor.kind != "api_key" or project_id == str(actor.project_id)
        }

    def shortfalls(self) -> list[dict[str, Any]]:
        """As they are stored: whose they are, and the refusal."""
        return [
            {
                "project_id": short.project_id,
                "rule": short.refusal.rule,
                "subject": short.refusal.subject,
                "value": short.refusal.value,
                "remedy": short.refusal.remedy,
            }
            for short in self.check.shortfalls
        ]


def drain_preview(*, organization_id: UUID, kind: str, name: str, now: datetime) -> Preview:
    """Solve the present world without it. Raises Problem ``invalid_document`` for a name in which no pool lies."""
    problem = placement_load(organization_id=organization_id, now=now)
    node = selectors.node_named(organization_id=organization_id, name=name) if kind == "node" else None
    drain = selectors.drained_of(kind, name, node)
    if drain is None:
        raise _unknown(organization_id, name)
    _known_check(problem, drain.domain)
    stored = placements.plan_newest(organization_id=organization_id)
    check = drain_check(problem, plan_decode(stored.plan) if stored else None, drain)
    if node is not None:
        check = replace(check, replicas=len(agents.replicas_on([node])[node.pk]))
    projects = {row.deployment_id: row.project_id for row in problem.deployments}
    return Preview(check, _expected_s(problem, check), projects)


def _unknown(organization_id: UUID, name: str) -> Problem:
    actor = system_actor("drains", organization_id=organization_id)
    rows = agents.nodes(actor=actor).order_by("cluster__name", "pk")[:NAMES_TOLD]
    known = ", ".join(f"{row.cluster.name}/{row.name}" for row in rows)
    return field_problem(
        "/name", "is no node of a pool", value=name[:80], remedy=f"known are: {known or 'none'}"
    )


def _known_check(problem: PlacementProblem, domain: FailureDomain) -> None:
    there = {
        one
        for pool in problem.pools
        for one in domains_of(pool, problem.cluster_by_id[pool.cluster_id])
        if one.kind == domain.kind
    }
    if domain not in there:
        known = ", ".join(sorted(one.name for one in there)[:NAMES_TOLD])
        remedy = f"known are: {known or 'none'}"
        raise field_problem(
            "/name", f"is no {domain.kind} with a pool", value=domain.name[:80], remedy=remedy
        )


def _expected_s(problem: PlacementProblem, check: DrainCheck) -> float | None:
    """By what was learned of starts, else by what is stated in profiles."""
    learned = agents.cold_starts_learned(
        model_version_ids={UUID(arrival.model_version_id) for arrival in check.arrivals}
    )
    starts: list[float | None] = []
    for arrival in check.arrivals:
        instance_type_id = problem.pool_by_id[arrival.pool_id].instance_type_id
        key = UUID(arrival.model_version_id), UUID(instance_type_id)
        starts.append(learned.get(key, arrival.cold_start_s))
    return expected_s(starts)


def preview_shown(actor: Actor, preview: Preview) -> dict[str, Any]:
    """A preview as this actor may read it."""
    own = preview.own_deployment_ids(actor)
    return {
        "replicas": preview.check.replicas,
        "expected_s": preview.expected_s,
        "kept": [
            {
                "deployment": row.deployment if row.deployment_id in own else None,
                "jurisdiction": row.jurisdiction,
                "replicas_now": row.replicas_now,
                "replicas_after": row.replicas_after,
            }
            for row in preview.check.kept
        ],
        "shortfalls": shown_to(actor, preview.shortfalls()),
    }


def shown_to(actor: Actor, shortfalls: Iterable[dict[str, Any]]) -> list[Refusal]:
    """Shortfalls as this actor may read them: a key learns no names of another project's deployments."""
    return [
        Refusal(
            rule=short["rule"],
            subject=short["subject"]
            if actor.kind != "api_key" or short["project_id"] == str(actor.project_id)
            else "a deployment of another project",
            value=short["value"],
            remedy=short["remedy"],
        )
        for short in shortfalls
    ]
