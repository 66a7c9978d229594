"""Curves through the pure sizing: documents and rows as the room takes them, and its refusal as a problem."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from apps.api.problems import Problem
from apps.catalog.models import PerformanceProfile
from controlplane.sizing import CurvePoint, Goals, Live, Sizing, scaled_by, size
from workloadplane.protocol.refusal import Refusal


def curve_of(documents: Sequence[Mapping[str, Any]]) -> list[CurvePoint]:
    """The points of a document or a row."""
    return [CurvePoint(**point) for point in documents]


def curve_stored(points: Sequence[CurvePoint]) -> list[dict[str, Any]]:
    """As a row keeps them, in order."""
    return [asdict(point) for point in sorted(points, key=lambda each: each.concurrency)]


def curve_sized(points: Sequence[CurvePoint], goals: Goals, input_tokens_mean: float) -> Sizing:
    """The size that keeps the goals. Raises Problem ``refused`` if none does."""
    found = size(points, goals, input_tokens_mean=input_tokens_mean)
    if isinstance(found, Refusal):
        raise Problem("refused", str(found), refusals=[found])
    return found


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
