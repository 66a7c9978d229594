"""What would serving have cost, and who would have waited? Requests on virtual time, decided by what decides for real.

Where requests come from: ``trace`` (files, row by row), ``arrivals`` (made from a seed) and ``servegen`` (tables of a
producer's clients). What they meet: ``service`` (how long a replica takes), ``cold_start`` and ``pools`` (what there
is, and what breaks). ``by_request`` plays each request through the gateway's picker and queue, ``fluid`` plays their
sum, bin by bin (``fluid_regions`` that of several regions), and ``clairvoyant`` bounds from below what any schedule
could have cost. All ask the autoscaler that an agent asks. ``world_document`` reads a document of all that, ``playing``
plays it for one policy after the other, ``report`` shows them side by side. ``fleet_world`` and ``fleet_mode`` are a
day of many clusters and deployments.

No clock, no I/O, no randomness but streams of a seed: the same world gives the same figures to the last digit.
"""

from controlplane.simulation.serving.fluid import Figures, FluidOutcome, Scaler, play
from controlplane.simulation.serving.series import FloatArray, LoadSeries

__all__ = ["Figures", "FloatArray", "FluidOutcome", "LoadSeries", "Scaler", "play"]
