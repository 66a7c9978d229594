"""Arrivals that are made: a rate that moves, and how regularly or in bursts requests keep to it.

Requests are a renewal process, gaps of one kind one after the other, in a time that runs as fast as the rate is high:
a cumulative rate Λ is inverted exactly, so a step is a step. ``cv`` 1 is a Poisson process, above it requests come in
bursts, below it regularly (gamma-distributed gaps). Rates, gaps and lengths have a stream each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.simulation.serving.batch import Batch
from controlplane.simulation.serving.lengths import Lengths
from controlplane.simulation.serving.series import FloatArray
from controlplane.simulation.serving.streams import Streams

REQUESTS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class RatePath:
    """Requests per second over time: straight lines between knots. Two knots at one time are a step.

    at_s rises from 0; per_s is 0 or more. Before the first knot and after the last nothing comes.
    """

    at_s: FloatArray
    per_s: FloatArray

    @property
    def requests(self) -> float:
        """How many are expected in all."""
        return float(self._cumulative()[-1])

    def expected_until(self, at_s: FloatArray) -> FloatArray:
        """How many are expected to have come at these times, none of them before the first knot."""
        place = np.clip(np.searchsorted(self.at_s, at_s, side="right") - 1, 0, len(self.at_s) - 2)
        span = np.diff(self.at_s)[place]
        past = np.clip(at_s - self.at_s[place], 0.0, span)
        slope = np.divide(np.diff(self.per_s)[place], span, out=np.zeros_like(span), where=span > 0)
        found = self._cumulative()[place] + past * (self.per_s[place] + slope * past / 2)
        return np.asarray(found, dtype=np.float64)

    def scaled(self, factor: float) -> "RatePath":
        """The same shape with ``factor`` times the requests."""
        return RatePath(self.at_s, self.per_s * factor)

    def times_of(self, expected: FloatArray) -> FloatArray:
        """When so many requests are expected to have come: Λ inverted. All below ``requests``."""
        total = self._cumulative()
        place = np.clip(np.searchsorted(total, expected, side="right") - 1, 0, len(total) - 2)
        span = np.diff(self.at_s)[place]
        first = self.per_s[:-1][place]
        slope = np.divide(np.diff(self.per_s)[place], span, out=np.zeros_like(span), where=span > 0)
        left = expected - total[place]
        root = first + np.sqrt(np.maximum(0.0, first**2 + 2 * slope * left))
        past = np.divide(2 * left, root, out=np.zeros_like(left), where=root > 0)
        return np.asarray(self.at_s[place] + np.minimum(past, span), dtype=np.float64)

    def _cumulative(self) -> FloatArray:
        areas = np.diff(self.at_s) * (self.per_s[1:] + self.per_s[:-1]) / 2
        return np.concatenate(([0.0], np.cumsum(areas)))


def constant(per_s: float, end_s: float) -> RatePath:
    """The same rate all the time."""
    return RatePath(np.array([0.0, end_s]), np.array([per_s, per_s]))


def steps(levels: Sequence[tuple[float, float]], end_s: float) -> RatePath:
    """(time, rate) each: from that time on. The first at 0, times rising, all before ``end_s``."""
    starts = [at_s for at_s, _ in levels]
    rates = [per_s for _, per_s in levels]
    at_s = np.repeat(np.array([*starts, end_s]), 2)[1:-1]
    return RatePath(at_s, np.repeat(np.array(rates), 2))


def flash_crowd(
    base_per_s: float,
    peak_per_s: float,
    *,
    at_s: float,
    rise_s: float,
    hold_s: float,
    fall_s: float,
    end_s: float,
) -> RatePath:
    """A crowd comes within ``rise_s``, stays ``hold_s`` and goes within ``fall_s``."""
    knots = np.array([0.0, at_s, at_s + rise_s, at_s + rise_s + hold_s, at_s + rise_s + hold_s + fall_s])
    levels = np.array([base_per_s, base_per_s, peak_per_s, peak_per_s, base_per_s])
    last = float(np.interp(end_s, knots, levels))
    kept = knots < end_s
    return RatePath(np.append(knots[kept], end_s), np.append(levels[kept], last))


def daily(
    mean_per_s: float, swing: float, *, peak_s: float, end_s: float, day_s: float = 86_400.0
) -> RatePath:
    """A wave of one day: ``swing`` (up to 1) of the mean above it at ``peak_s``, as much below half a day later."""
    knots = max(2, int(end_s / day_s * 96) + 1)
    at_s = np.linspace(0.0, end_s, knots)
    return RatePath(at_s, mean_per_s * (1 + swing * np.cos(2 * np.pi * (at_s - peak_s) / day_s)))


def mmpp(states: Sequence[tuple[float, float]], end_s: float, rng: np.random.Generator) -> RatePath:
    """Markov-modulated: (rate, mean stay in s) each; from a state to any other one alike, the first one first."""
    now_s, state = 0.0, 0
    levels: list[tuple[float, float]] = []
    while now_s < end_s:
        per_s, stay_s = states[state]
        levels.append((now_s, per_s))
        now_s += float(rng.exponential(stay_s))
        if len(states) > 1:
            state = (state + 1 + int(rng.integers(len(states) - 1))) % len(states)
    return steps(levels, end_s)


def gaps(cv: float, count: int, rng: np.random.Generator) -> FloatArray:
    """Gaps of mean 1 and standard deviation ``cv``, which is above 0."""
    if cv == 1.0:
        return rng.standard_exponential(count)
    shape = 1.0 / cv**2
    return rng.standard_gamma(shape, count) / shape


def renewals(
    path: RatePath,
    *,
    cv: float,
    inputs: Lengths,
    outputs: Lengths,
    streams: Streams,
    name: str = "",
    at_once: int = REQUESTS_AT_ONCE,
) -> Iterator[Batch]:
    """Requests along ``path``, ``at_once`` a batch. ``name`` tells the streams of several sources apart."""
    when = streams.of(f"arrivals {name}")
    of_input, of_output = streams.of(f"input tokens {name}"), streams.of(f"output tokens {name}")
    expected, whole = 0.0, path.requests
    while expected < whole:
        moments = expected + np.cumsum(gaps(cv, at_once, when))
        expected = float(moments[-1])
        at_s = path.times_of(moments[moments < whole])
        if len(at_s):
            yield Batch(at_s, inputs.draw(len(at_s), of_input), outputs.draw(len(at_s), of_output))


def overlaid(sources: Sequence[Iterator[Batch]]) -> Iterator[Batch]:
    """Several sources as one, in order of time. Holds one batch of each."""
    held: list[Batch | None] = [next(source, None) for source in sources]
    while any(batch is not None for batch in held):
        there = [batch for batch in held if batch is not None]
        until_s = min(float(batch.at_s[-1]) for batch in there)
        parts: list[Batch] = []
        for place, batch in enumerate(held):
            if batch is None:
                continue
            after = int(np.searchsorted(batch.at_s, until_s, side="right"))
            if after:
                parts.append(batch.part(0, after))
            held[place] = batch.part(after, len(batch)) if after < len(batch) else next(sources[place], None)
        at_s = np.concatenate([part.at_s for part in parts])
        order = np.argsort(at_s, kind="stable")
        origins = [part.origin for part in parts if part.origin is not None]
        yield Batch(
            at_s[order],
            np.concatenate([part.input_tokens for part in parts])[order],
            np.concatenate([part.output_tokens for part in parts])[order],
            np.concatenate(origins)[order] if origins else None,
        )
