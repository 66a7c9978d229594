"""How long a launch takes until its replica is ready, phase by phase."""

import math
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.streams import Streams

#: The words of a ``ColdStart``, in order.
PHASES = ("gpu_procurement", "image_pull", "weight_load", "engine_start")
#: The one in which the provider answers.
PROCURED = PHASES[0]
_DRAWN_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Lognormal with this mean, and a standard deviation of ``cv`` means; 0: always the same."""

    name: str
    mean_s: float
    cv: float = 0.0


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of a launch until the machine is had, and until the replica on it is ready."""

    procured_s: float
    ready_s: float


class LaunchTimes:
    """What each launch takes: the n-th one of a world the same, whoever launches it and when."""

    def __init__(self, phases: tuple[Phase, ...], streams: Streams) -> None:
        """``phases``: one after the other."""
        self._phases = phases
        self._streams = [streams.of(f"cold start {phase.name}") for phase in phases]
        self._drawn: list[Took] = []
        self._launches = 0

    @property
    def launches(self) -> int:
        """How many were asked for."""
        return self._launches

    def next(self) -> Took:
        """Of one more launch."""
        if self._launches == len(self._drawn):
            self._draw()
        self._launches += 1
        return self._drawn[self._launches - 1]

    def next_s(self) -> float:
        """Of one more launch until its replica is ready, in seconds."""
        return self.next().ready_s

    @property
    def mean_s(self) -> float:
        """Of a launch."""
        return sum(phase.mean_s for phase in self._phases)

    @property
    def procured_mean_s(self) -> float:
        """Until a provider has answered."""
        return sum(phase.mean_s for phase in self._phases if phase.name == PROCURED)

    def _draw(self) -> None:
        rows = [_draw(phase, rng) for phase, rng in zip(self._phases, self._streams, strict=True)]
        nothing = np.zeros(_DRAWN_AT_ONCE)
        procured = [row for phase, row in zip(self._phases, rows, strict=True) if phase.name == PROCURED]
        self._drawn += [
            Took(float(had_s), float(ready_s))
            for had_s, ready_s in zip(
                sum(procured, nothing), np.sum(rows, axis=0) if rows else nothing, strict=True
            )
        ]


def _draw(phase: Phase, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    spread = math.sqrt(math.log1p(phase.cv**2))
    return phase.mean_s * np.exp(spread * rng.standard_normal(_DRAWN_AT_ONCE) - spread**2 / 2)
