"""How long a launch takes until its replica is ready, phase by phase."""

import math
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.streams import Streams

#: The words of a ``ColdStart``, in order.
PHASES = ("gpu_procurement", "image_pull", "weight_load", "engine_start")
_DRAWN_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Lognormal with this mean, and a standard deviation of ``cv`` means; 0: always the same."""

    name: str
    mean_s: float
    cv: float = 0.0


class LaunchTimes:
    """What each launch takes: the n-th one of a world the same, whoever launches it and when."""

    def __init__(self, phases: tuple[Phase, ...], streams: Streams) -> None:
        """``phases``: one after the other."""
        self._phases = phases
        self._streams = [streams.of(f"cold start {phase.name}") for phase in phases]
        self._drawn: list[float] = []
        self._launches = 0

    @property
    def launches(self) -> int:
        """How many were asked for."""
        return self._launches

    def next_s(self) -> float:
        """Of one more launch, in seconds."""
        if self._launches == len(self._drawn):
            rows = [_draw(phase, rng) for phase, rng in zip(self._phases, self._streams, strict=True)]
            self._drawn += np.sum(rows, axis=0).tolist() if rows else [0.0] * _DRAWN_AT_ONCE
        self._launches += 1
        return self._drawn[self._launches - 1]

    @property
    def mean_s(self) -> float:
        """Of a launch."""
        return sum(phase.mean_s for phase in self._phases)


def _draw(phase: Phase, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    spread = math.sqrt(math.log1p(phase.cv**2))
    return phase.mean_s * np.exp(spread * rng.standard_normal(_DRAWN_AT_ONCE) - spread**2 / 2)
