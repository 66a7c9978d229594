"""Reading the catalog: models of the actor's project, engine images and GPU facts for all."""

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from django.db.models import Q, QuerySet

from apps.accounts.selectors import project_wanted
from apps.api.actors import Actor
from apps.api.problems import field_problem, not_found
from apps.api.rows import row_by_id
from apps.catalog.models import Adapter, EngineImage, Model, ModelVersion, PerformanceProfile
from apps.catalog.sizing import curve_of
from controlplane.sizing import Goals, Live, Sizing, scaled_by, size
from workloadplane.protocol.refusal import Refusal


def models(*, actor: Actor, name: str | None = None) -> QuerySet[Model]:
    """Models of the actor's project, with their versions."""
    found = Model.objects.filter(project_id=project_wanted(actor)).prefetch_related("versions")
    return found if name is None else found.filter(name=name)


def model_get(*, actor: Actor, name: str) -> Model:
    """By name or id. Raises Problem ``not_found``."""
    try:
        condition = Q(pk=UUID(name))
    except ValueError:
        condition = Q(name=name)
    found = models(actor=actor).filter(condition).first()
    if found is None:
        raise not_found("model", name)
    return found


def model_versions(*, model: Model) -> QuerySet[ModelVersion]:
    return ModelVersion.objects.filter(model=model).select_related("model")


def model_version_get(*, actor: Actor, model: str, version: str) -> ModelVersion:
    """Raises Problem ``not_found``."""
    found = model_versions(model=model_get(actor=actor, name=model)).filter(version=version).first()
    if found is None:
        raise not_found("model version", f"{model}@{version}")
    return found


def model_version_resolve(*, project_id: UUID, reference: str, pointer: str = "/model") -> ModelVersion:
    """What ``name`` (its newest version) or ``name@version`` means in a project.

    Raises Problem ``invalid_document`` at ``pointer``, naming what is known.
    """
    name, _, version = reference.partition("@")
    versions = ModelVersion.objects.filter(model__project_id=project_id, model__name=name).select_related(
        "model"
    )
    if "@" in reference:
        found = versions.filter(version=version).first()
        known = [str(row) for row in versions.order_by("-created_at")[:20]]
    else:
        found = versions.order_by("-created_at", "-id").first()
        known = []
    if found is not None:
        return found
    if not known:
        rows = Model.objects.filter(project_id=project_id).order_by("name")[:20]
        known = [row.name for row in rows]
    remedy = f"known are: {', '.join(known) or 'none'}; add one with POST /api/v1/models"
    raise field_problem(pointer, "is not in the catalog", value=reference[:80], remedy=remedy)


def adapters(*, model_version: ModelVersion) -> QuerySet[Adapter]:
    return Adapter.objects.filter(model_version=model_version).select_related("model_version__model")


def adapter_get(*, model_version: ModelVersion, name: str) -> Adapter:
    """Raises Problem ``not_found``."""
    found = adapters(model_version=model_version).filter(name=name).first()
    if found is None:
        raise not_found("adapter", name)
    return found


def engine_images(*, engine: str | None = None) -> QuerySet[EngineImage]:
    found = EngineImage.objects.all()
    return found if engine is None else found.filter(engine=engine)


def engine_image_get(*, image_id: str) -> EngineImage:
    """Raises Problem ``not_found``."""
    return row_by_id(EngineImage.objects.all(), "engine image", image_id)


def engine_image_resolve(*, engine: str, pointer: str = "/engine") -> EngineImage:
    """The newest image of an engine. Raises Problem ``invalid_document`` at ``pointer``, naming the known engines."""
    found = EngineImage.objects.filter(engine=engine).order_by("-created_at", "-id").first()
    if found is None:
        known = sorted(set(EngineImage.objects.values_list("engine", flat=True)))
        remedy = f"engines with an image are: {', '.join(known) or 'none'}"
        raise field_problem(pointer, "has no image in the catalog", value=engine[:80], remedy=remedy)
    return found


def profiles(*, actor: Actor, model: str | None = None) -> QuerySet[PerformanceProfile]:
    """Profiles of the project's models."""
    found = PerformanceProfile.objects.filter(
        model_version__model__project_id=project_wanted(actor)
    ).select_related("model_version__model", "instance_type__provider")
    return found if model is None else found.filter(model_version__model__name=model)


def profile_get(*, actor: Actor, profile_id: str) -> PerformanceProfile:
    """Raises Problem ``not_found``."""
    return row_by_id(profiles(actor=actor), "performance profile", profile_id)


class ProfileHeld(NamedTuple):
    """What placement needs of a ``PerformanceProfile``, by its own names."""

    model_version_id: UUID
    instance_type_id: UUID
    tensor_parallel: int
    requests_per_s: float
    tokens_per_s: float
    concurrency: int
    gpu_procurement_s: float | None
    image_pull_s: float | None
    weight_load_s: float | None
    engine_start_s: float | None


def profiles_held(*, model_version_ids: Collection[UUID]) -> list[ProfileHeld]:
    """Profiles of these model versions, for the control plane itself."""
    found = PerformanceProfile.objects.filter(model_version_id__in=model_version_ids).order_by("id")
    return [ProfileHeld(*row) for row in found.values_list(*ProfileHeld._fields)]


def profile_goals(profile: PerformanceProfile) -> Goals:
    """At which the profile's rates were read."""
    return Goals(
        ttft_s_p95=profile.slo_ttft_s_p95, inter_token_latency_s_p95=profile.slo_inter_token_latency_s_p95
    )


def profile_sizing(
    profile: PerformanceProfile, *, goals: Goals | None = None, live: Live | None = None
) -> Sizing | Refusal | None:
    """What the profile's curve says for these goals (else its own), moved to what is seen live; None without one."""
    points = curve_of(profile.curve)
    if not points:
        return None
    if live is not None:
        points = scaled_by(points, live)
    return size(points, goals or profile_goals(profile), input_tokens_mean=profile.input_tokens_mean or 1.0)
