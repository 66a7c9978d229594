"""Batch sizing: how many requests should one replica compute side by side, so that it keeps its goals?

From the curve that ``meridian profile run`` measured (throughput and latencies at several concurrencies), the goals,
and what is seen live. Pure: frozen dataclasses in and out; never imports Django, ``apps`` or the workload plane.
"""

from controlplane.sizing.curve import CurvePoint, Live, scaled_by
from controlplane.sizing.size import Goals, Sizing, size

__all__ = ["CurvePoint", "Goals", "Live", "Sizing", "scaled_by", "size"]
