"""Curves through the pure sizing: documents and rows as the room takes them, and its refusal as a problem."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from apps.api.problems import Problem
from controlplane.sizing import CurvePoint, Goals, Sizing, size
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
