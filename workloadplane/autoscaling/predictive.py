"""The predictive policy: as many replicas as the load will need when one that is launched now is ready.

A replica launched now serves a cold start later, so the load of that moment counts, not today's. Wanted is the
forecast with the head-room that its own past errors ask for, corrected by how many requests missed the SLO; at
least the load that is here, the bursts that came twice within the hour, and what the queue needs to drain. Fewer
replicas are wanted only when that has been so, and will be, for as long as it would take to get one back.
"""

import math
from dataclasses import dataclass, field

from workloadplane.autoscaling.forecast import Forecast, observed
from workloadplane.autoscaling.policy import AutoscalingPolicy
from workloadplane.autoscaling.signals import MOST_DEMAND, SloSeen, WorkSeen
from workloadplane.autoscaling.tuning import PredictiveTuning

#: Until cold starts were measured.
DEFAULT_COLD_START_S = 180.0
#: Bounds of what the SLO adds to the head-room, and the most that one decision adds, in shares of the load.
LEAST_CORRECTION, MOST_CORRECTION = -0.06, 0.4
MOST_CORRECTION_STEP = 0.01
#: The share of the SLO's budget that the head-room aims at: a finite window should keep the SLO too.
BUDGET_AIM = 0.8
#: Over how long the mean number of requests is taken that the budget is a share of.
REQUESTS_MEAN_S = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictiveState:
    """What the policy has learned and holds.

    correction:   what the SLO has added to the head-room, a share of the load
    requests_per_s, slo_seen_s: the mean rate of requests, and over how long it was seen
    wanted:       (time, count) of the hold, those no later one exceeds: what the load of then needed
    foreseen:     the same of the shorter hold: what was wanted of it in all
    """

    forecast: Forecast = field(default_factory=Forecast)
    correction: float = 0.0
    requests_per_s: float = 0.0
    slo_seen_s: float = 0.0
    wanted: tuple[tuple[float, int], ...] = ()
    foreseen: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Replicas needed, not rounded, by cause; the highest counts. ``here``: by the load of now, with head-room."""

    now: float
    here: float
    ahead: float
    head_room: float
    bursts: float
    queue: float

    @property
    def replicas(self) -> float:
        return max(self.ahead + self.head_room, self.bursts) + self.queue


def predictive(
    *,
    demand: float,
    work: WorkSeen | None,
    slo: SloSeen | None,
    supply: int,
    last: int,
    state: PredictiveState,
    policy: AutoscalingPolicy,
    cold_start_s: float,
    now: float,
) -> tuple[int, Need, PredictiveState]:
    """The count wanted, why, and the state for the next call.

    ``demand`` is the load in replicas (finite, >= 0), ``supply`` the replicas that are ready or
    starting, ``last`` the count decided last.
    """
    tuning = policy.tuning
    forecast = observed(state.forecast, demand, now=now, horizon_s=cold_start_s, tuning=tuning)
    correction, requests_per_s, slo_seen_s = _corrected(state, slo, now, policy)
    need = _need(
        forecast,
        correction,
        waiting_s=min(work.waiting_s, MOST_DEMAND) if work is not None else 0.0,
        supply=supply,
        cold_start_s=cold_start_s,
        tuning=tuning,
    )
    replicas = need.replicas / policy.target_utilisation
    wanted = math.ceil(replicas - 1e-9)
    launched = math.ceil(replicas - min(tuning.margin, tuning.margin_share * replicas) - 1e-9)
    here = min(wanted, math.ceil(max(need.here, need.bursts) / policy.target_utilisation - 1e-9))
    hold_s = max(policy.scale_down_delay_s, tuning.hold_s + tuning.hold_cold_starts * cold_start_s)
    kept = _held(state.wanted, here, hold_s, now)
    foreseen = _held(state.foreseen, wanted, max(policy.scale_down_delay_s, tuning.foreseen_hold_s), now)
    learned = PredictiveState(
        forecast=forecast,
        correction=correction,
        requests_per_s=requests_per_s,
        slo_seen_s=slo_seen_s,
        wanted=kept,
        foreseen=foreseen,
    )
    return max(launched, min(last, max(kept[0][1], foreseen[0][1]))), need, learned


def _held(
    past: tuple[tuple[float, int], ...], count: int, hold_s: float, now: float
) -> tuple[tuple[float, int], ...]:
    """The counts of the last ``hold_s`` and this one, those no later one exceeds; the first is the highest."""
    return (*((at, held) for at, held in past if now - at < hold_s and held > count), (now, count))


def _need(
    forecast: Forecast,
    correction: float,
    *,
    waiting_s: float,
    supply: int,
    cold_start_s: float,
    tuning: PredictiveTuning,
) -> Need:
    ahead = max(forecast.ahead(after_s, cold_start_s, tuning) for after_s in (0.0, cold_start_s))
    left_s = max(
        0.0, waiting_s - max(0.0, supply - ahead) * cold_start_s
    )  # what is not served before one comes
    return Need(
        now=forecast.level,
        here=max(forecast.fast, forecast.level) * (1.0 + correction) + forecast.quantile * forecast.level,
        ahead=ahead,
        head_room=(forecast.quantile + correction) * ahead + tuning.noise_share * forecast.noise,
        bursts=forecast.level + tuning.burst_share * forecast.burst(),
        queue=left_s / max(cold_start_s, 60.0),
    )


def _corrected(
    state: PredictiveState, slo: SloSeen | None, now: float, policy: AutoscalingPolicy
) -> tuple[float, float, float]:
    """Correction, rate of requests, seconds seen: integral control of the misses.

    Over time they are to be the budget's share of all requests, no more and no fewer.
    """
    correction, rate, slo_seen_s = state.correction, state.requests_per_s, state.slo_seen_s
    step_s = now - state.forecast.at if state.forecast.at is not None else 0.0
    if slo is None or step_s <= 0 or not slo.valid:
        return correction, rate, slo_seen_s
    seen = slo.inside + slo.outside
    slo_seen_s += step_s
    rate += min(1.0, step_s / min(slo_seen_s, REQUESTS_MEAN_S)) * (seen / step_s - rate)
    if rate > 0:
        budget = (1.0 - policy.slo_attainment) * BUDGET_AIM
        over_s = (slo.outside / budget - seen) / rate  # budget, in seconds, that this step took too much
        change = min(over_s / policy.tuning.feedback_s, MOST_CORRECTION_STEP)
        correction = min(max(correction + change, LEAST_CORRECTION), MOST_CORRECTION)
    return correction, rate, slo_seen_s


def why(need: Need, count: int, state: PredictiveState, cold_start_s: float) -> tuple[str, ...]:
    """Why ``count``: the parts of the need, and what holds the count above it."""
    told = [
        f"{need.now:.2f} replicas' worth of load now, {need.ahead:.2f} foreseen for {cold_start_s:.0f} s from now, "
        f"head-room {need.head_room:+.2f} (of which the SLO {state.correction * need.ahead:+.2f}): {count}"
    ]
    if need.bursts > need.ahead + need.head_room:
        told.append(f"bursts of the last hour ask for {need.bursts:.2f}")
    if need.queue > 0:
        told.append(f"{need.queue:.2f} more to drain the queue")
    if state.foreseen[-1][1] < count:
        told.append(f"{state.foreseen[-1][1]} would do, but {count} were wanted too short a time ago")
    return tuple(told)
