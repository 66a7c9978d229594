"""The predictive policy: as many replicas as the load will need when one that is launched now is ready.

A replica launched now serves a cold start later, so the load of that moment counts, not today's. Wanted is the
forecast with the head-room that its own past errors ask for, corrected by how many requests missed the SLO; at
least the load that is here, the bursts that came twice within the hour, and what the queue needs to drain. A target
utilisation above 1 trims that, but never to less than the mean load keeps busy or than ends a queue that stands: fewer
would never do, however long one waits. Fewer replicas are wanted only when that has been so, and will be, for as long
as it would take to get one back.
"""

import math

from msgspec import Struct, field

from workloadplane.autoscaling.feedback import Feedback, fed_back
from workloadplane.autoscaling.forecast import Forecast, observed
from workloadplane.autoscaling.hold import Held, held
from workloadplane.autoscaling.policy import AutoscalingPolicy
from workloadplane.autoscaling.signals import MOST_DEMAND, SloSeen, WorkSeen
from workloadplane.autoscaling.waiting import Waiting, waited

#: Until cold starts were measured.
DEFAULT_COLD_START_S = 180.0


class PredictiveState(Struct, frozen=True, kw_only=True):
    """What the policy has learned and holds.

    feedback:     what the SLO has added to the head-room
    waiting:      since when requests have waited without a pause
    wanted:       counts of the hold: what the load of then needed
    foreseen:     the same of the shorter hold: what was wanted of it in all
    """

    forecast: Forecast = field(default_factory=Forecast)
    feedback: Feedback = field(default_factory=Feedback)
    waiting: Waiting = field(default_factory=Waiting)
    wanted: Held = ()
    foreseen: Held = ()


class Need(Struct, frozen=True, kw_only=True):
    """Replicas needed, not rounded, by cause; the highest counts.

    now, level: the load as it was seen, and as it is in the mean
    foreseen:   what is ahead or comes in bursts, with the queue, at the target utilisation
    here:       by the load of now, with head-room, at the target utilisation
    overdue:    by what has waited too long to be a moment's
    """

    now: float
    level: float
    ahead: float
    head_room: float
    bursts: float
    queue: float
    foreseen: float
    here: float
    overdue: float

    @property
    def replicas(self) -> float:
        return max(self.foreseen, self.level, self.overdue)


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
    before = state.forecast.at
    step_s = now - before if before is not None else 0.0
    waiting_s = min(work.waiting_s, MOST_DEMAND) if work is not None else 0.0
    forecast = observed(state.forecast, demand, now=now, horizon_s=cold_start_s, tuning=tuning)
    feedback = fed_back(state.feedback, slo, step_s, policy)
    waiting = waited(state.waiting, waiting_s=waiting_s, demand=demand, step_s=step_s, now=now)
    need = _need(
        forecast,
        feedback.correction + tuning.least_head_room * tuning.pace(cold_start_s),
        demand=demand,
        waiting_s=waiting_s,
        overdue=waiting.need(waiting_s, cold_start_s, now),
        supply=supply,
        cold_start_s=cold_start_s,
        policy=policy,
    )
    replicas = need.replicas
    wanted = math.ceil(replicas - 1e-9)
    launched = math.ceil(replicas - min(tuning.margin, tuning.margin_share * replicas) - 1e-9)
    here = min(wanted, math.ceil(max(need.here, need.level) - 1e-9))
    hold_s = max(policy.scale_down_delay_s, tuning.hold_s + tuning.hold_cold_starts * cold_start_s)
    kept = held(state.wanted, here, hold_s, now)
    foreseen = held(state.foreseen, wanted, max(policy.scale_down_delay_s, tuning.foreseen_hold_s), now)
    learned = PredictiveState(
        forecast=forecast,
        feedback=feedback,
        waiting=waiting,
        wanted=kept,
        foreseen=foreseen,
    )
    return max(launched, min(last, max(kept[0][1], foreseen[0][1]))), need, learned


def _need(
    forecast: Forecast,
    correction: float,
    *,
    demand: float,
    waiting_s: float,
    overdue: float,
    supply: int,
    cold_start_s: float,
    policy: AutoscalingPolicy,
) -> Need:
    tuning, utilisation = policy.tuning, policy.target_utilisation
    ahead = max(forecast.ahead(cold_start_s, tuning))
    head_room = (forecast.quantile + correction) * ahead + tuning.noise_share * forecast.noise
    bursts = forecast.level + tuning.burst_share * forecast.burst()
    left_s = max(
        0.0, waiting_s - max(0.0, supply - ahead) * cold_start_s
    )  # what is not served before one comes
    queue = left_s / max(cold_start_s, 60.0)
    here = max(forecast.fast, forecast.level) * (1.0 + correction) + forecast.quantile * forecast.level
    return Need(
        now=demand,
        level=forecast.level,
        ahead=ahead,
        head_room=head_room,
        bursts=bursts,
        queue=queue,
        foreseen=(max(ahead + head_room, bursts) + queue) / utilisation,
        here=max(here, bursts) / utilisation,
        overdue=overdue,
    )


def why(need: Need, count: int, state: PredictiveState, cold_start_s: float) -> tuple[str, ...]:
    """Why ``count``: the parts of the need, and what holds the count above it."""
    told = [
        f"{need.now:.2f} replicas' worth of load now, {need.level:.2f} in the mean, {need.ahead:.2f} foreseen for "
        f"{cold_start_s:.0f} s from now, head-room {need.head_room:+.2f} (of which the SLO "
        f"{state.feedback.correction * need.ahead:+.2f}): {count}"
    ]
    if need.bursts > need.ahead + need.head_room:
        told.append(f"bursts of the last hour ask for {need.bursts:.2f}")
    if need.queue > 0:
        told.append(f"{need.queue:.2f} more to drain the queue")
    if need.overdue < need.level > need.foreseen:
        told.append(f"{need.level:.2f} for the mean load: no utilisation trims that")
    elif need.overdue > need.foreseen and state.waiting.since is not None and state.forecast.at is not None:
        told.append(
            f"requests have waited for {state.forecast.at - state.waiting.since:.0f} s without a pause: "
            f"{need.overdue:.2f} for what came since and what waits"
        )
    if state.foreseen[-1][1] < count:
        told.append(f"{state.foreseen[-1][1]} would do, but {count} were wanted too short a time ago")
    return tuple(told)
