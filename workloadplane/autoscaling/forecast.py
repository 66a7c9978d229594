"""The load to come, learned from the load that came: level, damped slope, and the quantile of its own past errors.

*Level.* An exponential mean of two minutes, held within some of its own mean deviations of one of half a minute (with
a cold start of three minutes; of less with a shorter one): steady while the load is, and there at once when it has
moved. *Slope.* The difference of two means, one of the other (Brown's double smoothing), damped with the horizon
(Gardner and McKenzie, 1985): no slope goes on for ever. *Head-room.*
Forecasts are kept until their time has come; the quantile of their errors, as shares of the load, is tracked online
without any assumption on how they are distributed (Gibbs and Candès, 2021; Angelopoulos, Candès and Tibshirani, 2023).

Frozen and of bounded size; ``observed`` is the one step. Loads are in replicas, times in seconds.
"""

import math

from msgspec import Struct, field
from msgspec.structs import replace

from workloadplane.autoscaling.season import Season, season_observed
from workloadplane.autoscaling.tuning import PredictiveTuning

#: Forecasts that wait for their time; with a horizon of eight minutes one every fifteen seconds.
MAX_PENDING = 32
#: Bursts are remembered for an hour: twelve highest excesses of five minutes each.
BURST_SLOT_S = 300.0
BURST_SLOTS = 12
#: One step of the quantile, in mean absolute errors or in itself, whichever is more.
QUANTILE_STEP = 0.04
#: What head-room an empty past has, as a share of the load, and between what it is kept.
FIRST_QUANTILE = 0.2
LEAST_QUANTILE, MOST_QUANTILE = -0.3, 2.0
#: One jump, however high, says no more than this of how large errors commonly are.
MOST_ERROR = 0.5
#: Errors of very small loads are told in units of this much.
LEAST_LOAD = 0.1
#: A load near 0 may grow by this much all the same.
SURE_GROWTH = 0.5
#: Of an empty past, as a share of the first load.
FIRST_DEVIATION = 0.05


class Forecast(Struct, frozen=True, kw_only=True):
    """What was learned so far.

    at, seen_s:       when the last load was seen, and for how long any was
    level, fast:      the steady mean over ``steady_s`` and the quick one over ``level_s`` that it follows
    deviation:        how far apart the two commonly are
    noise:            how far a load commonly is from the level
    first, second:    the two means of the slope
    quantile, scale:  the tracked quantile of the errors at the horizon, and their mean absolute value
    pending:          (time, load) of forecasts whose time has not come, in order
    bursts:           (slot, highest excess over the level) of the last hour
    """

    at: float | None = None
    seen_s: float = 0.0
    level: float = 0.0
    fast: float = 0.0
    deviation: float = 0.0
    noise: float = 0.0
    first: float = 0.0
    second: float = 0.0
    quantile: float = FIRST_QUANTILE
    scale: float = FIRST_QUANTILE
    pending: tuple[tuple[float, float], ...] = ()
    bursts: tuple[tuple[int, float], ...] = ()
    season: Season = field(default_factory=Season)

    def ahead(self, horizon_s: float, tuning: PredictiveTuning) -> tuple[float, float]:
        """The load now and ``horizon_s`` from now, neither below 0."""
        pace = tuning.pace(horizon_s)
        slope = self._slope(tuning.trend_s * pace)
        since = slope * min(tuning.steady_s * pace, self.seen_s)  # from the level's time until now
        if self.at is not None and self.season.trusted:
            change = self.season.change(self.at, horizon_s)
        else:
            reach_s = tuning.damping_s * (1.0 - math.exp(-horizon_s / tuning.damping_s))
            change = slope * reach_s * (tuning.rise_gain if slope > 0 else 1.0)
        most = tuning.most_growth * self.level + SURE_GROWTH
        return max(0.0, self.level + min(since, most)), max(0.0, self.level + min(since + change, most))

    def _slope(self, over_s: float) -> float:
        """Replicas per second; 0 until there was time to see one."""
        trust = min(1.0, self.seen_s / (3.0 * over_s))
        return trust * (self.first - self.second) / over_s

    def burst(self) -> float:
        """The second highest excess over the level in the last hour: what came twice will come again."""
        if len(self.bursts) < 2:
            return 0.0
        return sorted(excess for _, excess in self.bursts)[-2]


def observed(
    state: Forecast, load: float, *, now: float, horizon_s: float, tuning: PredictiveTuning
) -> Forecast:
    """The state after ``load`` (finite, >= 0) was seen; forecasts for ``horizon_s`` ahead are kept to be judged."""
    if state.at is None:
        return replace(
            state,
            at=now,
            level=load,
            fast=load,
            deviation=FIRST_DEVIATION * load,
            noise=FIRST_DEVIATION * load,
            first=load,
            second=load,
            pending=((now + horizon_s, load),),
        )
    step_s = now - state.at
    if step_s <= 0:
        return state
    seen_s = state.seen_s + step_s
    pace = tuning.pace(horizon_s)
    fast, level, deviation = _levels(state, load, step_s=step_s, seen_s=seen_s, pace=pace, tuning=tuning)
    newest = _weight(step_s, seen_s, tuning.trend_s * pace)
    first = state.first + newest * (load - state.first)
    second = state.second + newest * (first - state.second)
    quantile, scale, pending = _judged(state, load, now, tuning)
    return Forecast(
        at=now,
        seen_s=seen_s,
        level=level,
        fast=fast,
        deviation=deviation,
        noise=state.noise + _share(step_s, tuning.noise_s) * (abs(load - state.level) - state.noise),
        first=first,
        second=second,
        quantile=quantile,
        scale=scale,
        pending=_promised(state, pending, now, horizon_s, tuning),
        bursts=_bursts(state.bursts, load - level, now),
        season=season_observed(state.season, load, now=now),
    )


def _promised(
    state: Forecast,
    pending: tuple[tuple[float, float], ...],
    now: float,
    horizon_s: float,
    tuning: PredictiveTuning,
) -> tuple[tuple[float, float], ...]:
    """The pending forecasts and, every so often, the one that the state before this load gives."""
    if pending and now + horizon_s - pending[-1][0] < horizon_s / (MAX_PENDING - 1):
        return pending
    return (*pending, (now + horizon_s, state.ahead(horizon_s, tuning)[1]))[-MAX_PENDING:]


def _levels(
    state: Forecast, load: float, *, step_s: float, seen_s: float, pace: float, tuning: PredictiveTuning
) -> tuple[float, float, float]:
    """The quick level, the steady one, and how far apart they commonly are; one jump counts for four times that."""
    fast = state.fast + _weight(step_s, seen_s, tuning.level_s * pace) * (load - state.fast)
    level = state.level + _weight(step_s, seen_s, tuning.steady_s * pace) * (fast - state.level)
    apart = min(abs(fast - level), 4.0 * state.deviation + 0.01 * fast)
    deviation = state.deviation + _share(step_s, tuning.noise_s) * (apart - state.deviation)
    most = tuning.steady_deviations * deviation
    return fast, min(max(level, fast - most), fast + most), deviation


def _share(step_s: float, over_s: float) -> float:
    return 1.0 - math.exp(-step_s / over_s)


def _weight(step_s: float, seen_s: float, over_s: float) -> float:
    """The newest value's weight: of a plain mean as long as less than ``over_s`` was seen."""
    return max(_share(step_s, over_s), min(1.0, step_s / seen_s) if seen_s < over_s else 0.0)


def _judged(
    state: Forecast, load: float, now: float, tuning: PredictiveTuning
) -> tuple[float, float, tuple[tuple[float, float], ...]]:
    quantile, scale, pending = state.quantile, state.scale, state.pending
    due = 0
    for at, ahead in pending:
        if at > now:
            break
        due += 1
        error = (load - ahead) / max(ahead, LEAST_LOAD)
        scale += 0.01 * (min(abs(error), MOST_ERROR) - scale)
        above = 1.0 if error > quantile else 0.0
        quantile += QUANTILE_STEP * max(scale, abs(quantile)) * (above - (1.0 - tuning.quantile))
    quantile = min(max(quantile, LEAST_QUANTILE), MOST_QUANTILE)
    return quantile, scale, pending[due:] if due else pending


def _bursts(
    bursts: tuple[tuple[int, float], ...], excess: float, now: float
) -> tuple[tuple[int, float], ...]:
    slot = math.floor(now / BURST_SLOT_S)
    if bursts and bursts[-1][0] == slot:
        return bursts if excess <= bursts[-1][1] else (*bursts[:-1], (slot, excess))
    return (*(kept for kept in bursts if kept[0] > slot - BURST_SLOTS), (slot, max(0.0, excess)))
