"""Would these replicas have served this traffic? Series of load, played against the scalers that run in production.

``play(series, scaler, ...)`` is the fluid mode: load flows bin by bin into a queue that the ready replicas drain.
``clairvoyant`` bounds from below what any schedule could have cost.
"""

from controlplane.simulation.serving.fluid import Figures, FluidOutcome, Scaler, play
from controlplane.simulation.serving.series import FloatArray, LoadSeries

__all__ = ["Figures", "FloatArray", "FluidOutcome", "LoadSeries", "Scaler", "play"]
