"""The form for a deployment: its fields are the document's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms

from apps.catalog.models import Model
from apps.console.forms.base import DocumentForm
from apps.deployments.models import Posture, ResidencyIngress, ScalingPolicy, Survivability

_SURVIVES = (
    (Survivability.NONE, "no loss"),
    (Survivability.ZONE, "the loss of a zone"),
    (Survivability.REGION, "the loss of a region"),
    (Survivability.PROVIDER, "the loss of a provider"),
)
_POSTURES = (
    (Posture.ACTIVE_ACTIVE, "active-active: all regions serve"),
    (Posture.ACTIVE_PASSIVE, "active-passive: one region serves"),
)
_POLICIES = (
    (ScalingPolicy.PREDICTIVE, "predictive: ready when needed"),
    (ScalingPolicy.KPA, "kpa: Knative's, by load alone"),
)
_RESUMES = [("true", "go on from another one"), ("false", "end with an error")]
_INGRESS = (
    (ResidencyIngress.FORWARD, "forwarded inside"),
    (ResidencyIngress.REFUSE, "refused"),
)


#: Lists of names that the form takes as one line each, with commas between.
_NAME_LISTS = ("adapters", "providers_allowed", "providers_denied")


@dataclass(frozen=True)
class FormOptions:
    """What can be chosen: the project's models with their versions, engines that have an image, jurisdictions."""

    models: tuple[Model, ...]
    engines: tuple[str, ...]
    jurisdictions: tuple[str, ...]


class DemandField(forms.CharField):
    """Lines of ``REGION REQUESTS/S TOKENS/S``, ``*`` being all regions together; cleaned as the document has it."""

    widget = forms.Textarea(attrs={"rows": 2, "spellcheck": "false"})

    def clean(self, value: Any) -> list[dict[str, Any]]:
        return [self._entry(line) for line in super().clean(value).splitlines() if line.strip()]

    def _entry(self, line: str) -> dict[str, Any]:
        origin, *rates = line.replace(",", " ").split()
        try:
            requests, tokens = (float(rate) for rate in rates)
        except ValueError:
            example = "write a region and two numbers, such as: eu-west-1 4 800"
            raise forms.ValidationError(f"“{line.strip()[:60]}”: {example}.") from None
        said = {"requests_per_s": requests, "output_tokens_per_s": tokens}
        return said if origin == "*" else {"origin": origin, **said}


def _demand_line(entry: Mapping[str, Any]) -> str:
    rates = (entry.get(name, 0) for name in ("requests_per_s", "output_tokens_per_s"))
    return " ".join([entry.get("origin") or "*", *(str(_plain(rate)) for rate in rates)])


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


class DeploymentForm(DocumentForm):
    """Everything a deployment's document holds. The service judges the values; the form only reads them.

    ``fixed_name``: the name of a deployment that exists, which can't be changed.
    """

    pointers: ClassVar[Mapping[str, str]] = {
        "/name": "name",
        "/model": "model",
        "/engine": "engine",
        "/autoscaling/min_replicas": "min_replicas",
        "/autoscaling/max_replicas": "max_replicas",
        "/autoscaling/autoscaling_window_s": "autoscaling_window_s",
        "/autoscaling/scale_down_delay_s": "scale_down_delay_s",
        "/autoscaling/concurrency_target": "concurrency_target",
        "/autoscaling/policy": "policy",
        "/autoscaling": "max_replicas",
        "/posture": "posture",
        "/survivability": "survivability",
        "/residency": "residency",
        "/residency_ingress": "residency_ingress",
        "/resume": "resume",
        "/priority": "priority",
        "/adapters": "adapters",
        "/providers_allowed": "providers_allowed",
        "/providers_denied": "providers_denied",
        "/demand": "demand",
        "/slo/ttft_s_p95": "slo_ttft_s_p95",
        "/slo/inter_token_latency_s_p95": "slo_inter_token_latency_s_p95",
        "/slo": "slo_ttft_s_p95",
    }

    name = forms.CharField(
        max_length=63, help_text="What clients send as model: lower-case letters, digits and hyphens."
    )
    model = forms.ChoiceField()
    engine = forms.ChoiceField(help_text="The newest image of it is pinned into the revision.")
    adapters = forms.CharField(
        label="LoRA adapters",
        required=False,
        help_text="Names, with commas between. Clients send name:adapter.",
    )
    providers_allowed = forms.CharField(
        label="Only on providers", required=False, help_text="Names, with commas between; empty: all."
    )
    providers_denied = forms.CharField(
        label="Never on providers", required=False, help_text="Names, with commas between."
    )
    demand = DemandField(
        label="Load that you expect",
        required=False,
        help_text="A line each: region (or *), requests/s, output tokens/s. Planned for until usage is known.",
    )
    min_replicas = forms.IntegerField(label="Minimum", initial=1, help_text="0 scales to zero when idle.")
    max_replicas = forms.IntegerField(label="Maximum", initial=4)
    concurrency_target = forms.FloatField(
        initial=8, help_text="Requests at once that a replica should carry."
    )
    autoscaling_window_s = forms.FloatField(
        label="Window (s)", initial=60, help_text="How far back load is averaged."
    )
    scale_down_delay_s = forms.FloatField(
        label="Scale-down delay (s)", initial=300, help_text="How long fewer must suffice before some stop."
    )
    policy = forms.ChoiceField(label="Scaled by", required=False, choices=_POLICIES)
    residency = forms.MultipleChoiceField(
        label="May be served in",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None chosen means anywhere.",
    )
    residency_ingress = forms.ChoiceField(label="Requests met elsewhere are", choices=_INGRESS)
    survivability = forms.ChoiceField(label="Must survive", choices=_SURVIVES)
    posture = forms.ChoiceField(choices=_POSTURES)
    priority = forms.IntegerField(initial=0, help_text="-100 to 100; higher is placed first.")
    resume = forms.ChoiceField(label="Streams that lose their replica", required=False, choices=_RESUMES)
    slo_ttft_s_p95 = forms.FloatField(label="First token within (s)", required=False)
    slo_inter_token_latency_s_p95 = forms.FloatField(label="Between tokens (s)", required=False)

    def __init__(
        self,
        *args: Any,
        options: FormOptions,
        fixed_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        choices: list[tuple[str, str]] = []
        for model in options.models:
            choices.append((model.name, f"{model.name} (newest version)"))
            choices.extend((str(version), str(version)) for version in model.versions.all())
        self._choose("model", choices)
        self._choose("engine", [(engine, engine) for engine in options.engines])
        self._choose("residency", [(name, name) for name in options.jurisdictions])
        self.fixed_name = fixed_name
        if fixed_name is not None:
            del self.fields["name"]
        else:
            self.fields["name"].widget.attrs.update(
                {"autocapitalize": "none", "autocomplete": "off", "spellcheck": "false"}
            )
        for field in self.fields.values():
            if isinstance(field.widget, forms.NumberInput):
                field.widget.attrs["step"] = "any"

    def _choose(self, name: str, choices: Sequence[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  (which fields are choices is written above)
        held = self.initial.get(name)
        missing = [(held, held)] if isinstance(held, str) and held not in dict(choices) else []
        field.choices = [*choices, *missing]

    def document(self) -> dict[str, Any]:
        """The deployment's document, as the API takes it. Call on a valid form."""
        data = self.cleaned_data
        goals = {
            goal: data[f"slo_{goal}"]
            for goal in ("ttft_s_p95", "inter_token_latency_s_p95")
            if data[f"slo_{goal}"] is not None
        }
        optional = {name: _names(data[name]) for name in _NAME_LISTS} | {"demand": data["demand"]}
        return {
            "name": self.fixed_name or data["name"],
            "model": data["model"],
            "engine": data["engine"],
            "autoscaling": {
                "min_replicas": data["min_replicas"],
                "max_replicas": data["max_replicas"],
                "autoscaling_window_s": _plain(data["autoscaling_window_s"]),
                "scale_down_delay_s": _plain(data["scale_down_delay_s"]),
                "concurrency_target": _plain(data["concurrency_target"]),
                "policy": data["policy"] or self.initial.get("policy", ScalingPolicy.PREDICTIVE.value),
            },
            "posture": data["posture"],
            "survivability": data["survivability"],
            "residency": data["residency"],
            "residency_ingress": data["residency_ingress"],
            "priority": data["priority"],
            "resume": (data["resume"] or self.initial.get("resume", "true")) == "true",
            **({"slo": goals} if goals else {}),
            **{name: value for name, value in optional.items() if value},
        }


def form_values(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document as the form's initial values: the reverse of ``DeploymentForm.document``."""
    goals = document.get("slo") or {}
    return {
        **{name: document[name] for name in document if name not in ("autoscaling", "slo", "demand")},
        **{name: ", ".join(document.get(name, ())) for name in _NAME_LISTS},
        "demand": "\n".join(_demand_line(entry) for entry in document.get("demand", ())),
        **{
            name: value if isinstance(value, str) else _plain(value)
            for name, value in document["autoscaling"].items()
        },
        "resume": "true" if document["resume"] else "false",
        **{f"slo_{goal}": value for goal, value in goals.items()},
    }


def _plain(number: float) -> float | int:
    """60 instead of 60.0, as people write it."""
    return int(number) if float(number).is_integer() else number
