"""Asynchronous work on spot instances, finished by its deadline: the rule of uniform progress.

After "Can't Be Late" (Wu et al., NSDI 2024). Work of ``work_s`` on one instance has until ``deadline_s``; every move to
another instance loses ``restart_s``. What is expected at a moment is the share of the work that the time passed is of
the whole time. Four rules, the first that speaks decides:

- *thrifty*: nothing is rented once the work is done;
- *safety net*: where there is no time to lose another look and a restart, it goes on demand; it leaves that only where
  there is time for a restart more;
- *exploitation*: who holds a spot instance keeps it while it lasts;
- *uniform progress*: behind what is expected, on demand where no spot is to be had; who is on demand goes back to spot
  once what is expected two restarts later is done already, and lets on demand go, also without spot, once it is so
  many restarts ahead that another one hardly counts. Otherwise it waits, for spot.

Spot instances may come and go as they like: where the work, a restart and a look fit before the deadline, it is kept.
"""

from dataclasses import dataclass, replace
from typing import Literal

Place = Literal["idle", "spot", "on_demand"]

#: So far ahead, what is on demand is let go without spot: a restart is a tenth of what was done for it.
RESTARTS_AHEAD = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Seconds since the work's begin; ``work_s`` of computing. ``look_s``: it is looked at so often, or more."""

    work_s: float
    deadline_s: float
    restart_s: float
    look_s: float = 60.0

    def __post_init__(self) -> None:
        if not (self.work_s > 0 and self.deadline_s > 0 and self.restart_s >= 0 and self.look_s >= 0):
            raise ValueError(
                f"work_s {self.work_s}, deadline_s {self.deadline_s}, restart_s {self.restart_s}, look_s {self.look_s};"
                " give work and deadline above 0, and the others 0 or more"
            )

    @property
    def feasible(self) -> bool:
        """Whether the deadline can be promised whatever spot does."""
        return self.work_s + self.restart_s + self.look_s <= self.deadline_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """done_s: of the work; place: where it runs; starting_s: of the restart that is under way, what is left."""

    done_s: float = 0.0
    place: Place = "idle"
    starting_s: float = 0.0
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Looked:
    """A look: whether a spot instance is to be had, or goes on where one is held."""

    spot: bool


def step(work: Work, state: Progress, event: Looked, now_s: float) -> tuple[Progress, Place, str]:
    """What was done since the last look, where it goes on from here, and by which rule."""
    if (
        state.place == "spot" and not event.spot
    ):  # nobody knows when it went: what it did since the last look is lost
        state = replace(state, place="idle", starting_s=0.0)
    state = _advanced(work, state, now_s)
    place, reason = _choice(work, state, event, now_s)
    if place == state.place:
        return state, place, reason
    starting_s = work.restart_s if place != "idle" else 0.0
    return replace(state, place=place, starting_s=starting_s), place, reason


def _advanced(work: Work, state: Progress, now_s: float) -> Progress:
    passed_s = max(0.0, now_s - state.at_s)
    if state.place == "idle":
        return replace(state, at_s=now_s)
    started_s = min(passed_s, state.starting_s)
    return replace(
        state,
        done_s=min(work.work_s, state.done_s + passed_s - started_s),
        starting_s=state.starting_s - started_s,
        at_s=now_s,
    )


def _choice(work: Work, state: Progress, event: Looked, now_s: float) -> tuple[Place, str]:
    if state.done_s >= work.work_s:
        return "idle", "thrifty: the work is done"
    slack_s = work.deadline_s - now_s - (work.work_s - state.done_s)
    one_look_s = (
        work.restart_s + work.look_s
    )  # what may be lost until it can be sent on demand, and ready there
    if slack_s < one_look_s + (work.restart_s if state.place == "on_demand" else 0.0):
        return "on_demand", "safety net: what is left takes all the time there is"
    if state.place == "spot" and event.spot:
        return "spot", "exploitation: the spot instance lasts"
    if state.place == "on_demand":
        if event.spot and state.done_s >= expected_s(work, now_s + 2 * work.restart_s):
            return "spot", "uniform progress: ahead, and there is spot"
        if state.done_s >= expected_s(work, now_s) + RESTARTS_AHEAD * work.restart_s:
            return "idle", "uniform progress: far ahead, waiting for spot"
        return "on_demand", "uniform progress: catching up"
    if event.spot:
        return "spot", "there is spot"
    if state.done_s < expected_s(work, now_s):
        return "on_demand", "uniform progress: behind, and there is no spot"
    return "idle", "uniform progress: ahead, waiting for spot"


def expected_s(work: Work, now_s: float) -> float:
    """The work that is to be done by ``now_s`` by uniform progress."""
    return min(work.work_s, work.work_s * now_s / work.deadline_s)
