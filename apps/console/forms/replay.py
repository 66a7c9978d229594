"""The form that has a trace replayed: the file, what a replica is, and which policies."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms

from apps.console.forms.base import DocumentForm

#: A body of any kind may have a mebibyte; this leaves room for the other fields.
TRACE_BYTES_MAX = 1_000_000
_POLICIES = (("predictive", "predictive"), ("kpa", "KPA"))


class ReplayForm(DocumentForm):
    """Requests as a file, one deployment as numbers."""

    pointers: ClassVar[Mapping[str, str]] = {
        "/trace": "trace",
        "/autoscaling": "max_replicas",
        "/policies": "policies",
    }

    trace = forms.FileField(
        label="Trace",
        help_text="CSV with a head, or JSON lines: timestamp, input_tokens, output_tokens. At most 1 MB and 6 hours.",
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,.jsonl"}),
        max_length=120,
    )
    policies = forms.MultipleChoiceField(
        label="Policies",
        choices=_POLICIES,
        initial=["predictive", "kpa"],
        widget=forms.CheckboxSelectMultiple,
    )
    fixed_replicas = forms.IntegerField(
        label="And as many replicas all the time",
        required=False,
        min_value=1,
        max_value=1000,
        help_text="None: no such row.",
    )
    min_replicas = forms.IntegerField(label="Minimum", initial=1, min_value=0, max_value=1000)
    max_replicas = forms.IntegerField(label="Maximum", initial=50, min_value=1, max_value=1000)
    autoscaling_window_s = forms.FloatField(label="Window (s)", initial=60, min_value=1, max_value=3600)
    scale_down_delay_s = forms.FloatField(
        label="Scale-down delay (s)", initial=300, min_value=0, max_value=86_400
    )
    seats = forms.IntegerField(
        label="Requests side by side",
        initial=16,
        min_value=1,
        max_value=10_000,
        help_text="What a replica computes at once; the rest waits.",
    )
    prefill_tokens_per_s = forms.FloatField(
        label="Prompt tokens / s", initial=10_000, min_value=1, max_value=1e9
    )
    itl_ms = forms.FloatField(
        label="Inter-token latency (ms)",
        initial=30,
        min_value=0.01,
        max_value=10_000,
        help_text="With all these requests at once.",
    )
    cold_start_s = forms.FloatField(label="Cold start (s)", initial=180, min_value=0, max_value=86_400)
    wait_slo_s = forms.FloatField(
        label="A request may wait (s)",
        initial=5,
        min_value=0,
        max_value=3600,
        help_text="Longer is outside the SLO.",
    )
    usd_per_replica_h = forms.FloatField(
        label="A replica costs (USD / h)", initial=4, min_value=0, max_value=1e6
    )

    def clean_trace(self) -> Any:
        """Not packed, and not larger than it may be."""
        trace = self.cleaned_data["trace"]
        if trace.name.casefold().endswith(".gz"):
            raise forms.ValidationError("This file is packed: unpack it, or use `meridian simulate --trace`.")
        if trace.size > TRACE_BYTES_MAX:
            raise forms.ValidationError(
                f"This file has {trace.size:,} bytes, of {TRACE_BYTES_MAX:,}: replay a part of it, or use "
                "`meridian simulate --trace`."
            )
        return trace

    def names(self) -> list[str]:
        """The policies in the order of the form. Only after ``is_valid``."""
        fixed = self.cleaned_data["fixed_replicas"]
        return [*self.cleaned_data["policies"], *([f"static:{fixed}"] if fixed else [])]

    def document(self) -> dict[str, Any]:
        """The world, but for the trace. Only after ``is_valid``."""
        said = self.cleaned_data
        replicas = max(said["max_replicas"], said["fixed_replicas"] or 0)
        return {
            "name": "replay",
            "service": {
                "seats": said["seats"],
                "prefill_s_per_token": 1 / said["prefill_tokens_per_s"],
                "itl_base_s": said["itl_ms"] / 1000,
            },
            "cold_start": {"engine_start": {"mean_s": said["cold_start_s"]}},
            "pools": [
                {
                    "name": "pool",
                    "procurement": "on_demand",
                    "replicas": replicas,
                    "usd_per_replica_h": said["usd_per_replica_h"],
                }
            ],
            "autoscaling": {
                name: said[name]
                for name in ("min_replicas", "max_replicas", "autoscaling_window_s", "scale_down_delay_s")
            },
            "slo": {"wait_s": said["wait_slo_s"]},
            "failures": {"gpu_failures_per_gpu_h": 0},
        }
