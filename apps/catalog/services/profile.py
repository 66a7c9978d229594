"""What a replica was measured to do. Placement reads it."""

from collections.abc import Mapping, Sequence
from typing import Any

from apps.api.actors import Actor
from apps.api.problems import field_problem
from apps.api.services import audit_record, one_transaction
from apps.catalog.models import ModelVersion, PerformanceProfile
from apps.catalog.sizing import curve_of, curve_sized, curve_stored
from apps.fleet.models import InstanceType
from controlplane.sizing import CurvePoint, Goals
from workloadplane.words import counted


@one_transaction
def profile_create(
    *,
    actor: Actor,
    model_version: ModelVersion,
    instance_type: InstanceType,
    requests_per_s: float | None = None,
    tokens_per_s: float | None = None,
    concurrency: int | None = None,
    curve: Sequence[Mapping[str, Any]] = (),
    slo: Mapping[str, float | None] | None = None,
    input_tokens_mean: float | None = None,
    tensor_parallel: int = 1,
    gpu_procurement_s: float | None = None,
    image_pull_s: float | None = None,
    weight_load_s: float | None = None,
    engine_start_s: float | None = None,
) -> PerformanceProfile:
    """Rates of one replica at its SLO, and its cold start by phase (None: not measured).

    With a curve, what is not given of the rates is read from it, at the most that keeps the goals of ``slo``.
    Raises Problem ``already_exists``, ``invalid_document``, ``refused``.
    """
    from apps.placements.services import placement_request

    _fit_check(instance_type, tensor_parallel)
    goals, points = Goals(**(slo or {})), curve_of(curve)
    given = {"requests_per_s": requests_per_s, "tokens_per_s": tokens_per_s, "concurrency": concurrency}
    rates = _rates(given, points, goals, input_tokens_mean)
    profile = PerformanceProfile.objects.create(
        model_version=model_version,
        instance_type=instance_type,
        tensor_parallel=tensor_parallel,
        **rates,
        gpu_procurement_s=gpu_procurement_s,
        image_pull_s=image_pull_s,
        weight_load_s=weight_load_s,
        engine_start_s=engine_start_s,
        curve=curve_stored(points),
        input_tokens_mean=input_tokens_mean,
        slo_ttft_s_p95=goals.ttft_s_p95,
        slo_inter_token_latency_s_p95=goals.inter_token_latency_s_p95,
    )
    profile.refresh_from_db()
    after = {
        "model_version": str(model_version),
        "instance_type": instance_type.name,
        "tensor_parallel": tensor_parallel,
        **rates,
    }
    audit_record(actor=actor, action="created", subject=profile, after=after)
    placement_request(organization_id=model_version.model.project.organization_id)
    return profile


def _fit_check(instance_type: InstanceType, tensor_parallel: int) -> None:
    """Raises Problem ``invalid_document``."""
    if tensor_parallel > instance_type.gpus:
        gpus = counted(instance_type.gpus, "GPU")
        remedy = f"{instance_type.name} has {gpus}; a replica's group stays inside one instance"
        raise field_problem("/tensor_parallel", "does not fit", value=tensor_parallel, remedy=remedy)


def _rates(
    given: Mapping[str, float | None],
    points: Sequence[CurvePoint],
    goals: Goals,
    input_tokens_mean: float | None,
) -> dict[str, Any]:
    """As given, or else as the curve has them. Raises Problem ``invalid_document``, ``refused``."""
    if points:
        sizing = curve_sized(points, goals, input_tokens_mean or 1.0)
        given = {name: value or getattr(sizing, name) for name, value in given.items()}
    if None in given.values():
        raise field_problem("/curve", "is wanted where not all rates are given", value=None)
    return dict(given)


@one_transaction
def profile_delete(*, actor: Actor, profile: PerformanceProfile) -> None:
    """Forget a measurement, so that a new one can be written."""
    from apps.placements.services import placement_request

    before = {"model_version": str(profile.model_version), "instance_type": profile.instance_type.name}
    audit_record(actor=actor, action="deleted", subject=profile, before=before)
    organization_id = profile.model_version.model.project.organization_id
    profile.delete()
    placement_request(organization_id=organization_id)
