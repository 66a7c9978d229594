"""Observers that ask one another, on virtual time, over ways that can be cut, in processes that can stand still.

What the gateway does around ``workloadplane.health.outlook`` is done here as it does it: a question to each peer every
0.25 to 0.5 s, one at a time; an answer is given up after two seconds; a look at all evidence every tick.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

from controlplane.simulation.kernel import Queue
from controlplane.simulation.regions.checker import Checker
from controlplane.simulation.regions.schedule import QUIET_S, SLOW_S_MAX, SLOW_SHARE, Schedule, schedule_of
from workloadplane.health.domain import RampPolicy
from workloadplane.health.outlook import (
    Change,
    Members,
    Outlook,
    OutlookEvent,
    OutlookPolicy,
    Seen,
    Sighting,
    Tick,
    sightings,
    step,
)

_ASK_EVERY_S: Final = (0.25, 0.5)
_TICK_S: Final = 0.1
_GIVEN_UP_S: Final = 2.0
#: Shorter holds than in production, so that a schedule is over soon.
POLICY: Final = OutlookPolicy(ramp=RampPolicy(rung_s=0.25, ejected_s=0.5, ejected_s_max=2.0))
#: After healing, what was under way still comes to its end, and by then everybody must be healthy again: an answer
#: given up, the longest hold, steady answers, the ramp.
_AFTERMATH_S: Final = 2.5
RECOVERY_S: Final = 7.5


class _Question(NamedTuple):
    """From ``asker`` in its ``life``-th life to ``asked``. ``word``: the answer; ``refused``: nobody was there."""

    asker: int
    asked: int
    life: int
    at_s: float
    word: dict[str, Sighting] | None = None
    refused: bool = False
    answered_by: int = -1


class _Asks(NamedTuple):
    asker: int
    asked: int
    life: int


class _Ticks(NamedTuple):
    region: int
    life: int


class _Starts(NamedTuple):
    region: int


_Happening = _Question | _Asks | _Ticks | _Starts


@dataclass(slots=True)
class Played:
    """What came of a schedule. ``wrong``: rules that did not hold; ``changes``: (time, observer, what changed).

    owed: losses that somebody had to find, once for each observer
    """

    schedule: Schedule
    wrong: list[str]
    changes: list[tuple[float, int, Change]]
    owed: int


def play(seed: int, policy: OutlookPolicy = POLICY) -> Played:
    """Play the schedule of this seed to its end."""
    schedule = schedule_of(seed)
    run = _Run(schedule, policy, Checker(schedule, policy))
    run.play()
    run.checker.end({observer: run.outlooks[observer] for observer in range(schedule.regions)})
    return Played(schedule, run.checker.wrong, run.changes, run.checker.owed)


@dataclass(slots=True)
class _Run:
    schedule: Schedule
    policy: OutlookPolicy
    checker: Checker
    queue: Queue[_Happening] = field(default_factory=Queue)
    outlooks: dict[int, Outlook] = field(default_factory=dict)
    lives: dict[int, int] = field(default_factory=dict)
    changes: list[tuple[float, int, Change]] = field(default_factory=list)
    rng: Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = Random(self.schedule.seed + 1)  # noqa: S311  draws delays, guards nothing

    def play(self) -> None:
        """Until everybody is healthy again, or should be."""
        schedule, queue = self.schedule, self.queue
        settled_s = schedule.healed_s + _AFTERMATH_S
        for region in range(schedule.regions):
            queue.put(self.rng.uniform(0.0, QUIET_S / 5), _Starts(region))
        for fault in schedule.faults:
            if fault.kind == "killed":
                queue.put(fault.to_s, _Starts(fault.region))
        self._play_until(settled_s)
        while queue.now_s < schedule.healed_s + RECOVERY_S and not self._all_are_healthy():
            self._play_until(queue.now_s + _TICK_S)

    def _play_until(self, until_s: float) -> None:
        while (happening := self.queue.take(until_s)) is not None:
            self._happens(happening, self.queue.now_s)

    def _all_are_healthy(self) -> bool:
        return all(
            subject.standing.state == "healthy"
            for outlook in self.outlooks.values()
            for subject in outlook.subjects.values()
        )

    def _happens(self, what: _Happening, now_s: float) -> None:
        place = _place_of(what)
        goes_on_s = self.schedule.halted_until_s(place, now_s)
        if goes_on_s > now_s:
            self.queue.put(goes_on_s, what)
        elif isinstance(what, _Question):
            if what.word is not None or what.refused:
                self._hear(what, now_s)
            else:
                self._answer(what, now_s)
        elif isinstance(what, _Starts):
            self._start(what.region, now_s)
        elif self.schedule.is_killed(place, now_s) or self.lives[place] != what.life:
            return
        elif isinstance(what, _Asks):
            self._ask(what, now_s)
        else:
            self._step(what.region, Tick(), now_s)
            self.queue.put(now_s + _TICK_S, what)

    def _start(self, region: int, now_s: float) -> None:
        """A process begins, knowing nothing."""
        life = self.lives[region] = self.lives.get(region, 0) + 1
        self.outlooks[region] = Outlook()
        self.checker.on_start(region)
        others = [other for other in range(self.schedule.regions) if other != region]
        self._step(region, Members(frozenset(map(str, others))), now_s)
        for other in others:
            self.queue.put(now_s + self.rng.uniform(0.0, 0.1), _Asks(region, other, life))
        self.queue.put(now_s + self.rng.uniform(0.0, _TICK_S), _Ticks(region, life))

    def _ask(self, what: _Asks, now_s: float) -> None:
        asker, asked = what.asker, what.asked
        if self.schedule.is_cut(asker, asked, now_s):
            self.queue.put(now_s + _GIVEN_UP_S, what)
        else:
            arrives_s = now_s + self.schedule.way_s[asker][asked]
            self.queue.put(arrives_s, _Question(asker, asked, what.life, now_s))

    def _answer(self, what: _Question, now_s: float) -> None:
        """It has come to whom it is for."""
        schedule, asked = self.schedule, what.asked
        killed = schedule.is_killed(asked, now_s) or asked not in self.outlooks
        if schedule.is_cut(asked, what.asker, now_s):
            again_s = max(now_s, what.at_s + _GIVEN_UP_S)
            self.queue.put(again_s, _Asks(what.asker, asked, what.life))
            return
        takes_s = schedule.way_s[asked][what.asker]
        if not killed and (self.rng.random() < SLOW_SHARE or schedule.is_slow(asked, now_s)):
            takes_s += self.rng.uniform(0.0, SLOW_S_MAX)
        word = None if killed else sightings(self.outlooks[asked], self._local_s(asked, now_s))
        back = _Question(what.asker, asked, what.life, what.at_s, word, refused=killed, answered_by=asked)
        self.queue.put(now_s + takes_s, back)

    def _hear(self, what: _Question, now_s: float) -> None:
        """The answer is back at the asker."""
        asker = what.asker
        if self.schedule.is_killed(asker, now_s) or self.lives[asker] != what.life:
            return
        if what.refused:
            self._step(asker, Seen(str(what.asked), "refused"), now_s)
        elif now_s - what.at_s < _GIVEN_UP_S:
            asked_s = self._local_s(asker, what.at_s)
            self.checker.on_word(asker, what.asked, what.word or {}, what.at_s)
            self._step(asker, Seen(str(what.asked), "answered", what.word or {}, asked_s), now_s)
        next_s = max(now_s, what.at_s + self.rng.uniform(*_ASK_EVERY_S))
        self.queue.put(next_s, _Asks(asker, what.asked, what.life))

    def _step(self, region: int, event: OutlookEvent, now_s: float) -> None:
        after, changes = step(self.outlooks[region], event, self._local_s(region, now_s), self.policy)
        self.outlooks[region] = after
        if changes:
            self.changes += [(now_s, region, change) for change in changes]
            self.checker.on_changes(now_s, region, changes, after)

    def _local_s(self, region: int, at_s: float) -> float:
        """What this region's clock shows."""
        return self.schedule.skew_s[region] + at_s * self.schedule.rate[region]


def _place_of(what: _Happening) -> int:
    """Whose process must run for it to happen."""
    if isinstance(what, _Asks):
        return what.asker
    if isinstance(what, _Question):
        return what.asked if what.answered_by < 0 else what.asker
    return what.region
