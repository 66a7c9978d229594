"""The policies that are compared, each with a few variants of its constants and one number that trades cost for SLO."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from controlplane.simulation.serving import LoadSeries, Scaler
from controlplane.simulation.serving.series import FloatArray
from workloadplane.autoscaling import AutoscalingPolicy, PolicyScaler, PredictiveTuning, Seen
from workloadplane.autoscaling.hold import Held, held

MOST_REPLICAS = 200

#: A scaler for a run that begins with so many replicas.
Make = Callable[[int], Scaler]


@dataclass(frozen=True)
class Variant:
    """Constants of a policy but for the utilisation, which is searched for."""

    name: str
    make: Callable[[float], Make]


@dataclass(frozen=True)
class Contender:
    """A policy and its variants."""

    name: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class _Answer:
    replicas: int


@dataclass
class Static:
    """Always the same count."""

    replicas: int

    def step(self, seen: Seen) -> _Answer:
        return _Answer(self.replicas)


@dataclass
class Twice:
    """Always twice the highest minute of the last six hours: what comes too fast for it, no policy need keep."""

    replicas: int
    over_s: float = 6 * 3600.0
    _loads: deque[float] = field(default_factory=lambda: deque(maxlen=6))
    _counts: Held = ()

    def step(self, seen: Seen) -> _Answer:
        load = seen.work.demand if seen.work is not None else None
        if load is not None:
            self._loads.append(load)
            count = math.ceil(2.0 * sum(self._loads) / len(self._loads))
            self._counts = held(self._counts, count, self.over_s, seen.now)
            self.replicas = self._counts[0][1]
        return _Answer(self.replicas)


@dataclass(frozen=True)
class Foreseeing:
    """Knows the load to come, but for what is shorter than a window: the most until a launch of now would be ready.

    ``levels``: the mean load of the window around each of the series' moments, in replicas.
    """

    levels: FloatArray
    bin_s: float
    ahead_s: float
    utilisation: float

    def step(self, seen: Seen) -> _Answer:
        now, last = (int(at_s / self.bin_s) for at_s in (seen.now, seen.now + self.ahead_s))
        return _Answer(max(1, math.ceil(float(self.levels[now : last + 1].max()) / self.utilisation)))


@dataclass
class Hpa:
    """Kubernetes' horizontal pod autoscaler (autoscaling/v2) on the requests at hand per replica.

    The documented algorithm and defaults: the ratio of the metric to its target, a tolerance of a tenth, at most
    double or four more in 15 s, and on the way down the highest recommendation of the stabilisation window.
    """

    target: float
    stabilisation_s: float = 300.0
    metric_s: float = 60.0
    tolerance: float = 0.1
    _loads: deque[tuple[float, float]] = field(default_factory=deque)
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)
    _counts: deque[tuple[float, int]] = field(default_factory=deque)

    def step(self, seen: Seen) -> _Answer:
        current = seen.ready + seen.starting
        if seen.concurrency is None or not math.isfinite(seen.concurrency):
            return _Answer(current)
        self._loads.append((seen.now, seen.concurrency))
        while self._loads[0][0] <= seen.now - self.metric_s:
            self._loads.popleft()
        load = sum(value for _, value in self._loads) / len(self._loads)
        ratio = load / self.target / max(1, current)
        wanted = current if abs(ratio - 1.0) <= self.tolerance else max(1, math.ceil(load / self.target))
        self._wanted.append((seen.now, wanted))
        while self._wanted[0][0] <= seen.now - self.stabilisation_s:
            self._wanted.popleft()
        self._counts.append((seen.now, current))
        while self._counts[0][0] <= seen.now - 15.0:
            self._counts.popleft()
        before = min(count for _, count in self._counts)
        most = max(2 * before, before + 4)
        stabilised = max(count for _, count in self._wanted)
        return _Answer(min(wanted, most) if wanted > current else min(current, stabilised))


def _policy(**factors: object) -> AutoscalingPolicy:
    plain = AutoscalingPolicy(
        min_replicas=1,
        max_replicas=MOST_REPLICAS,
        autoscaling_window_s=60.0,
        scale_down_delay_s=0.0,
        concurrency_target=1.0,
    )
    return replace(plain, **factors)  # type: ignore[arg-type]


def _production(name: str, **factors: object) -> Variant:
    def at(utilisation: float) -> Make:
        policy = _policy(target_utilisation=utilisation, **factors)
        return lambda replicas: PolicyScaler(policy, replicas=replicas, now=0.0)

    return Variant(name, at)


def _hpa(stabilisation_s: float) -> Variant:
    def at(utilisation: float) -> Make:
        return lambda replicas: Hpa(target=utilisation, stabilisation_s=stabilisation_s)

    return Variant(f"stabilisation {stabilisation_s:g} s", at)


def _predictive(**constants: float) -> Variant:
    tuning = replace(PredictiveTuning(), **constants)
    named = ", ".join(f"{name} {value:g}" for name, value in constants.items()) or "as it comes"
    return _production(named, kind="predictive", tuning=tuning)


def shifted(tuning: PredictiveTuning, **factors: float) -> Make:
    """The predictive policy with these constants and factors."""
    policy = _policy(tuning=tuning, **factors)
    return lambda replicas: PolicyScaler(policy, replicas=replicas, now=0.0)


def foreseeing(series: LoadSeries, window_s: float, *, ahead_s: float) -> Contender:
    """Who knows the mean load of each ``window_s`` of this series, for so long ahead."""
    window = np.ones(round(window_s / series.bin_s))
    counted = np.convolve(np.ones_like(series.work_s), window, mode="same")
    levels = np.convolve(series.work_s, window, mode="same") / counted / series.bin_s

    def at(utilisation: float) -> Make:
        return lambda replicas: Foreseeing(levels, series.bin_s, ahead_s, utilisation)

    name = f"knows each {window_s / 60:g} minutes"
    return Contender(name, (Variant(name, at),))


KPA = Contender(
    "KPA",
    tuple(
        _production(f"window {window_s:g} s", kind="kpa", autoscaling_window_s=window_s)
        for window_s in (60.0, 300.0)
    ),
)
KPA_900 = Contender(
    "KPA + 900 s",
    tuple(
        _production(
            f"window {window_s:g} s", kind="kpa", autoscaling_window_s=window_s, scale_down_delay_s=900.0
        )
        for window_s in (60.0, 300.0)
    ),
)
HPA = Contender("HPA", tuple(_hpa(stabilisation_s) for stabilisation_s in (300.0, 900.0)))
PREDICTIVE = Contender(
    "predictive",
    (_predictive(), _predictive(quantile=0.7)),
)
CONTENDERS = (KPA, KPA_900, HPA, PREDICTIVE)
