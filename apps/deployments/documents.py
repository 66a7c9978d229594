"""A deployment's document and its rows: the one place where each is turned into the other.

``DeploymentDocument`` is what a user says, validated by shape (``DeploymentDocumentSerializer``) but not
yet against the catalog and the fleet.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from apps.api.field_errors import field_errors
from apps.api.problems import Problem
from apps.deployments.models import AutoscalingPolicy, Deployment
from apps.deployments.serializers_document import DeploymentDocumentSerializer


@dataclass(frozen=True, kw_only=True)
class AutoscalingDocument:
    """The five factors, and the policy that reads them."""

    min_replicas: int = 1
    max_replicas: int = 1
    autoscaling_window_s: float = 60.0
    scale_down_delay_s: float = 300.0
    concurrency_target: float = 8.0
    policy: str = "predictive"


@dataclass(frozen=True, kw_only=True)
class SloDocument:
    """Latency goals in seconds; None = none stated."""

    ttft_s_p95: float | None = None
    inter_token_latency_s_p95: float | None = None


@dataclass(frozen=True, kw_only=True)
class StatedDemand:
    """What the owner expects of a region's clients; ``origin`` None: of the clients of all regions together."""

    origin: str | None = None
    requests_per_s: float = 0.0
    output_tokens_per_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class DeploymentDocument:
    """The document. ``model`` is ``name`` or ``name@version``."""

    name: str
    model: str
    engine: str
    autoscaling: AutoscalingDocument = AutoscalingDocument()
    posture: str = "active_active"
    survivability: str = "none"
    residency: tuple[str, ...] = ()
    residency_ingress: str = "forward"
    priority: int = 0
    resume: bool = True
    slo: SloDocument = SloDocument()
    adapters: tuple[str, ...] = ()
    providers_allowed: tuple[str, ...] = ()
    providers_denied: tuple[str, ...] = ()
    demand: tuple[StatedDemand, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The document as it is sent; where nothing is stated, only ``residency`` says so, the rest is left out."""
        document = {name: getattr(self, name) for name in _PLAIN_FIELDS}
        document["autoscaling"] = dict(vars(self.autoscaling))
        document["residency"] = list(self.residency)
        for name in _OPTIONAL_NAMES:
            if getattr(self, name):
                document[name] = list(getattr(self, name))
        if self.demand:
            document["demand"] = [stated.as_json() for stated in self.demand]
        stated = {name: value for name, value in vars(self.slo).items() if value is not None}
        return {**document, "slo": stated} if stated else document


#: Lists of names that are left out where they are empty.
_OPTIONAL_NAMES = ("adapters", "providers_allowed", "providers_denied")
_PLAIN_FIELDS = tuple(
    field.name
    for field in fields(DeploymentDocument)
    if field.name not in ("slo", "demand", *_OPTIONAL_NAMES)
)


def document_read(raw: Any) -> DeploymentDocument:
    """The document that somebody sent. Raises Problem ``invalid_document`` with a pointer for each wrong field."""
    serializer = DeploymentDocumentSerializer(data=raw)
    if not serializer.is_valid():
        raise _problem(serializer.errors, raw)
    return _from_valid(serializer.validated_data)


def document_merge(current: DeploymentDocument, raw: Any) -> DeploymentDocument:
    """The document after a merge patch (RFC 7396): members replace members, objects are merged, null removes.

    Raises Problem ``invalid_document``, judged on the patch for its fields and on the result for the whole.
    """
    serializer = DeploymentDocumentSerializer(data=raw, partial=True)
    if not serializer.is_valid():
        raise _problem(serializer.errors, raw)
    return document_read(_merged(current.as_json(), raw))


def _merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = _merged(merged.get(name) or {}, value)
        else:
            merged[name] = value
    return merged


def _problem(errors: Any, raw: Any) -> Problem:
    found = field_errors(errors, raw)
    lines = [f"{error.pointer or 'the document'}: {error.detail}" for error in found[:3]]
    return Problem("invalid_document", "; ".join(lines), errors=found)


def _from_valid(data: Mapping[str, Any]) -> DeploymentDocument:
    given = dict(data)
    autoscaling = dict(given.pop("autoscaling", None) or {})
    if "max_replicas" not in autoscaling:
        autoscaling["max_replicas"] = max(1, autoscaling.get("min_replicas", 1))
    given |= {name: tuple(given.get(name, ())) for name in ("residency", *_OPTIONAL_NAMES)}
    stated = given.pop("demand", ())
    return DeploymentDocument(
        **{name: value for name, value in given.items() if name != "slo"},
        autoscaling=AutoscalingDocument(**autoscaling),
        demand=tuple(StatedDemand(**entry) for entry in stated),
        slo=SloDocument(**(given.get("slo") or {})),
    )


def document_of(deployment: Deployment) -> DeploymentDocument:
    """The document of a deployment; ``model`` with the version that is pinned.

    ``autoscaling`` and ``current_revision`` (model version, model, engine image) are loaded.
    """
    policy = deployment.autoscaling
    revision = deployment.current_revision
    assert revision is not None  # noqa: S101  (a deployment is created with its first revision)
    return DeploymentDocument(
        name=deployment.name,
        model=str(revision.model_version),
        engine=revision.engine_image.engine,
        autoscaling=AutoscalingDocument(
            min_replicas=policy.min_replicas,
            max_replicas=policy.max_replicas,
            autoscaling_window_s=policy.autoscaling_window_s,
            scale_down_delay_s=policy.scale_down_delay_s,
            concurrency_target=policy.concurrency_target,
            policy=policy.policy,
        ),
        posture=deployment.posture,
        survivability=deployment.survivability,
        residency=tuple(deployment.residency),
        residency_ingress=deployment.residency_ingress,
        priority=deployment.priority,
        resume=deployment.resume,
        slo=SloDocument(
            ttft_s_p95=deployment.slo_ttft_s_p95,
            inter_token_latency_s_p95=deployment.slo_inter_token_latency_s_p95,
        ),
        adapters=tuple(adapter["name"] for adapter in revision.adapters),
        providers_allowed=tuple(deployment.providers_allowed),
        providers_denied=tuple(deployment.providers_denied),
        demand=tuple(StatedDemand(**entry) for entry in deployment.demand),
    )


def policy_write(document: DeploymentDocument, deployment: Deployment, policy: AutoscalingPolicy) -> None:
    """Put everything but what runs (model, engine) from the document onto the rows; saves nothing."""
    deployment.posture = document.posture
    deployment.survivability = document.survivability
    deployment.residency = list(document.residency)
    deployment.residency_ingress = document.residency_ingress
    deployment.providers_allowed = list(document.providers_allowed)
    deployment.providers_denied = list(document.providers_denied)
    deployment.demand = [dict(vars(stated)) for stated in document.demand]
    deployment.priority = document.priority
    deployment.resume = document.resume
    deployment.slo_ttft_s_p95 = document.slo.ttft_s_p95
    deployment.slo_inter_token_latency_s_p95 = document.slo.inter_token_latency_s_p95
    for name, value in asdict(document.autoscaling).items():
        setattr(policy, name, value)
