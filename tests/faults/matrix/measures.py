"""What has to be measured often or for long: a region lost twenty times, one that returns, half an hour of bad luck."""

import asyncio
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic

from tests.faults.lost_region import Figures, lose
from tests.faults.matrix.clients import Asked, Load
from tests.faults.matrix.pauser import pauser
from tests.faults.matrix.peers import Loss, compare
from tests.faults.matrix.report import Measure
from tests.faults.matrix.small import US, Small, small
from tests.support.waiting import eventually_async

KILLED_S_MAX, FROZEN_S_MAX = 2.0, 3.0
#: What is told as P99 of TTFT may rise by so much while a region returns.
TTFT_RISE_MAX = 0.25
_SLOW_SHARE, _SLOW_S = 0.05, (0.5, 3.0)
_PAUSE_S_MAX, _PAUSES_EVERY_S = 0.5, (0.5, 2.0)
_RAMP_CLIENTS = 60


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so much is not above; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


async def lost_region(runs: int, say: Callable[[str], None]) -> list[Measure]:
    """A region is frozen, returns, and is killed; again and again."""
    seen: list[Figures] = []
    for number in range(runs):
        with tempfile.TemporaryDirectory() as directory:
            seen.append(await lose(Path(directory)))
        one = seen[-1]
        say(
            f"lost {number + 1}: killed {one.killed_s:.2f} s, frozen {one.frozen_s:.2f} s, failed {one.failed} of "
            f"{one.requests}, measured late by {one.lag_s:.2f} s"
        )
    killed, frozen = (
        quantile([getattr(one, name) for one in seen], 0.99) for name in ("killed_s", "frozen_s")
    )
    again = sum(sum(one.failed[:2]) for one in seen)
    requests = sum(one.requests for one in seen)
    of = f"P99 of {runs} runs"
    return [
        Measure(
            f"region killed → last failed new request, {of}",
            "≤ 2.0 s",
            f"{killed:.2f} s",
            killed <= KILLED_S_MAX,
        ),
        Measure("failed with retry on", "0", f"{again} of {requests:,}", again == 0),
        Measure(
            f"region frozen → last failed new request, {of}",
            "≤ 3.0 s",
            f"{frozen:.2f} s",
            frozen <= FROZEN_S_MAX,
        ),
    ]


@dataclass(frozen=True)
class Spell:
    """What clients saw in some seconds."""

    errors: int
    requests: int
    ttft_s_p50: float
    ttft_s_p99: float


def spell(asked: Sequence[Asked], from_s: float, to_s: float) -> Spell:
    """Of all that began and ended in this time."""
    firsts = [one.attempts[0] for one in asked if one.attempts and one.is_over]
    within = [one for one in firsts if from_s <= one.began_s and one.ended_s <= to_s]
    streamed = {id(one.attempts[0]) for one in asked if one.streams and one.attempts}
    ttft = [one.first_s - one.began_s for one in within if id(one) in streamed and one.first_s]
    return Spell(sum(one.failed for one in within), len(within), quantile(ttft, 0.5), quantile(ttft, 0.99))


async def region_returns(before_s: float = 20.0) -> list[Measure]:
    """A region is frozen for five seconds; then it returns by its ramp of 1, 5, 25, 100 %, five seconds a rung."""
    with tempfile.TemporaryDirectory() as directory:
        async with small(Path(directory)) as made:
            load = made.load(rest_s=(0.3, 1.2))
            load.start(_RAMP_CLIENTS)
            await asyncio.sleep(3.0)
            began_s, load.lag_s = monotonic(), 0.0
            await asyncio.sleep(before_s)
            frozen_s, before_lag_s = monotonic(), load.lag_s
            made.places[US].signal(signal.SIGSTOP)
            await asyncio.sleep(5.0)
            made.places[US].signal(signal.SIGCONT)
            thawed_s, load.lag_s = monotonic(), 0.0
            await _until_healthy(made)
            ramped_s = monotonic()
            await load.stop()
    # What it held when it was frozen ends a moment after: the ramp is what begins then.
    before, ramp = spell(load.asked, began_s, frozen_s), spell(load.asked, thawed_s + 0.5, ramped_s)
    rise = ramp.ttft_s_p99 / before.ttft_s_p99 - 1
    told = (
        f"{rise:+.0%} ({before.ttft_s_p99 * 1e3:.0f} → {ramp.ttft_s_p99 * 1e3:.0f} ms, P50 "
        f"{before.ttft_s_p50 * 1e3:.0f} → {ramp.ttft_s_p50 * 1e3:.0f} ms, {ramped_s - thawed_s:.0f} s of ramp, "
        f"measured late by {before_lag_s:.2f} → {load.lag_s:.2f} s)"
    )
    return [
        Measure(
            "return of the region: errors", "none", f"{ramp.errors} of {ramp.requests:,}", ramp.errors == 0
        ),
        Measure("return of the region: TTFT P99", "< +25 %", told, rise < TTFT_RISE_MAX),
    ]


async def _until_healthy(made: Small) -> None:
    """By its ramp. Looked at now and then: looking must not slow down what is measured."""

    async def healthy() -> bool:
        await asyncio.sleep(0.5)
        return await made.all_healthy()

    await eventually_async(healthy, within_s=90.0, what="back by the ramp")


async def false_ejections(minutes: float, seed: int) -> list[Measure]:
    """Each twentieth request is late at its replica, and processes pause as by a garbage collection."""
    rng = Random(seed)

    def hesitates() -> float:
        return rng.uniform(*_SLOW_S) if rng.random() < _SLOW_SHARE else 0.0

    with tempfile.TemporaryDirectory() as directory:
        async with small(Path(directory), hesitates=hesitates) as made:
            before = await _ejections(made)  # who started first has found the others not there yet
            load = made.load(seed)
            load.start()
            pauses_s = await _pause_at_random(made, rng, monotonic() + 60 * minutes)
            after = await _ejections(made)
            await load.stop()
    names = (f"false ejection of a {what} in {minutes:g} min" for what in ("region", "replica"))
    return [
        _no_ejection(name, late - early, pauses_s, load)
        for name, early, late in zip(names, before, after, strict=True)
    ]


async def _ejections(made: Small) -> tuple[int, int]:
    """Of regions and of replicas, so far."""
    regions = await made.count("meridian_gateway_region_changes_total", state="ejected")
    return regions, await made.count("meridian_gateway_ejections_total")


def _no_ejection(name: str, ejections: int, pauses_s: list[float], load: Load) -> Measure:
    failed = sum(one.last.failed for one in load.asked if one.attempts)
    longest_ms = max(pauses_s, default=0.0) * 1e3
    pauses = f"{len(pauses_s)} pauses, {longest_ms:.0f} ms at most"
    late = f"measured late by {load.lag_s:.2f} s at most"
    told = f"{ejections} ({len(load.asked):,} requests, {failed} failed; {pauses}; {late})"
    return Measure(f"{name} of 5 % slow requests and pauses ≤ 500 ms", "0", told, ejections == 0)


async def _pause_at_random(made: Small, rng: Random, until_s: float) -> list[float]:
    """Gateways and engines, one at a time; how long each time."""
    pauses_s = []
    async with pauser() as stops:
        while monotonic() < until_s:
            await asyncio.sleep(rng.uniform(*_PAUSES_EVERY_S))
            place = made.places[rng.choice(sorted(made.places))]
            pid = rng.choice([place.gateway.process.pid, place.engine.process.pid])
            pauses_s.append(await stops.pause(pid, rng.uniform(0.05, _PAUSE_S_MAX)))
    return pauses_s


PEER_HEAD = (
    "| of three replicas one is lost | requests | last failed after | errors | broken streams | longest answer | "
    "measured late by |\n|---|" + "---:|" * 6
)


def peer_row(one: Loss) -> str:
    """One candidate and one loss."""
    last = f"{one.last_failed_s:.1f} s" if one.errors or one.broken_streams else "–"
    return (
        f"| {one.name}, {one.fault} | {one.asked} | {last} | {one.errors} | {one.broken_streams} | "
        f"{one.waited_s:.1f} s | {one.lag_s:.2f} s |"
    )


async def side_by_side(names: tuple[str, ...], hold_s: float, say: Callable[[str], None]) -> None:
    """This gateway and its peers, each told as soon as it is measured."""
    say("\n" + PEER_HEAD)
    with tempfile.TemporaryDirectory() as directory:
        async for one in compare(Path(directory), names, hold_s):
            say(peer_row(one))
