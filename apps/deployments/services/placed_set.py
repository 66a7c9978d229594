"""What placement decided about a deployment, as its condition."""

from collections.abc import Sequence

from apps.deployments.models import ConditionType, Deployment
from apps.deployments.services.condition_set import condition_set
from workloadplane.protocol.refusal import Refusal


def placed_set(
    *,
    deployment: Deployment,
    refusal: Refusal | None,
    relaxed: Sequence[Refusal],
    cluster_names: Sequence[str],
) -> bool:
    """Placed in these clusters (``relaxed``: without these wishes), or not placed as wanted because of ``refusal``;
    whether that is news.

    ``deployment`` is locked.
    """
    if refusal is not None:
        reason = "".join(word.capitalize() for word in refusal.rule.split("_"))
        message = str(refusal)
        if cluster_names:
            message += f" (what ran before goes on in {', '.join(cluster_names)})"
    else:
        reason, message = "Placed", f"runs in {', '.join(cluster_names)}"
        if relaxed:
            reason = "PlacedInPart"
            message += f"; not kept: {'; '.join(str(wish) for wish in relaxed)}"
    return condition_set(
        deployment=deployment,
        type=ConditionType.PLACED,
        status=refusal is None,
        reason=reason,
        message=message,
        observed_generation=deployment.generation,
        refusals=relaxed if refusal is None else (refusal,),
    )
