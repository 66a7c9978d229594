"""What comes to a fleet, and what its usage shows of that: the rates that production would plan for.

Each origin's load moves around the day's wave by a noise of some minutes. Usage is counted as ``apps.telemetry`` does:
in steps of five minutes, over the last day; the fleet has been there for as long, so the day before is counted too.
"""

import numpy as np

from controlplane.simulation.serving.fleet_world import DAY_S, FleetWorld
from controlplane.simulation.serving.series import FloatArray
from controlplane.simulation.serving.streams import Streams
from controlplane.simulation.serving.usage import USAGE_STEP_S, Rates, rates_of

STEP_S = 10.0
#: The noise around the wave: how long it lasts, and the deviation of what it is drawn from.
NOISE_LASTS_S, NOISE_DEVIATION = 300.0, 0.5
_STEPS = round(USAGE_STEP_S / STEP_S)


class FleetLoad:
    """Single owner: who plays the day."""

    def __init__(self, world: FleetWorld) -> None:
        """The day before has passed."""
        self._world = world
        self._rng = Streams(world.seed).of("load")
        self._noise = np.ones(len(world.mean_demand))
        self._counted = np.zeros_like(self._noise)
        self._steps_counted = 0
        self._usage = self._day_before()

    def next(self, now_s: float) -> FloatArray:
        """Each origin's demand of the step that begins now; called once for each."""
        (drawn,) = self._drawn(1)
        pull = STEP_S / NOISE_LASTS_S
        self._noise = (1 - pull) * self._noise + pull * drawn
        demand = self._world.demand(now_s) * self._noise
        self._counted += demand
        self._steps_counted += 1
        if self._steps_counted == _STEPS:
            self._usage = np.concatenate((self._usage[1:], self._counted[None] / _STEPS))
            self._counted, self._steps_counted = np.zeros_like(self._counted), 0
        return demand

    def rates(self) -> Rates:
        """Of the last day, the five minutes that run left out; in replicas that they keep busy."""
        return rates_of(self._usage)

    def _drawn(self, steps: int) -> FloatArray:
        """What the noise is drawn to, of mean 1: (steps, origins)."""
        size = (steps, len(self._world.mean_demand))
        return self._rng.lognormal(-(NOISE_DEVIATION**2) / 2, NOISE_DEVIATION, size)

    def _day_before(self) -> FloatArray:
        """(five-minute steps, origins): means of what ``next`` would have given."""
        pull = STEP_S / NOISE_LASTS_S
        kept = (1 - pull) ** np.arange(_STEPS + 1)
        # Of a step's draw, what is left of it at the end and, in the mean, in all of the five minutes.
        at_end, in_mean = pull * kept[_STEPS - 1 :: -1], (1 - kept[_STEPS:0:-1]) / _STEPS
        rows = []
        for began_s in np.arange(-DAY_S, 0.0, USAGE_STEP_S):
            drawn = self._drawn(_STEPS)
            mean = kept[1:].mean() * self._noise + in_mean @ drawn
            self._noise = kept[_STEPS] * self._noise + at_end @ drawn
            rows.append(self._world.demand(float(began_s) + USAGE_STEP_S / 2) * mean)
        return np.array(rows)
