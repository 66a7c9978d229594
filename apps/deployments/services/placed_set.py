"""What placement decided about deployments, as their conditions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from apps.deployments.judgement import Verdict
from apps.deployments.models import ConditionType, Deployment
from apps.deployments.services.conditions_set import conditions_set
from workloadplane.protocol.refusal import Refusal


@dataclass(frozen=True)
class Placed:
    """Placed in these clusters (``relaxed``: without these wishes), or not placed as wanted because of ``refusal``."""

    deployment: Deployment
    refusal: Refusal | None
    relaxed: Sequence[Refusal]
    cluster_names: Sequence[str]


def placed_set(*, placed: Iterable[Placed]) -> set[UUID]:
    """Say it, all at once; ids of deployments of which it is news. They are locked, as for ``conditions_set``."""
    return conditions_set(verdicts=[(one.deployment, _verdict(one)) for one in placed])


def _verdict(placed: Placed) -> Verdict:
    refusal, where = placed.refusal, ", ".join(placed.cluster_names)
    if refusal is not None:
        reason = "".join(word.capitalize() for word in refusal.rule.split("_"))
        message = str(refusal)
        if where:
            message += f" (what ran before goes on in {where})"
    else:
        reason, message = "Placed", f"runs in {where}"
        if placed.relaxed:
            reason = "PlacedInPart"
            message += f"; not kept: {'; '.join(str(wish) for wish in placed.relaxed)}"
    return Verdict(
        type=ConditionType.PLACED,
        status=refusal is None,
        reason=reason,
        message=message,
        observed_generation=placed.deployment.generation,
        refusals=tuple(placed.relaxed) if refusal is None else (refusal,),
    )
