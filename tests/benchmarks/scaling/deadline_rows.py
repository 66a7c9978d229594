"""Asynchronous work on spot instances: what it costs to be done by the deadline, and whether it is.

Zones of ``spot_world``, each by itself (one instance is wanted): uniform progress beside *greedy* (spot whenever there
is some, on demand only when nothing else can keep the deadline) and on demand alone. Costs are shares of on demand's.
"""

from dataclasses import dataclass
from statistics import fmean

from controlplane.procurement.deadline import Looked, Progress, Work, step
from tests.benchmarks.goals import Goal, Row
from tests.benchmarks.scaling.spot_world import SHAPES, TICK_S, world_made

SPOT_PRICE = 0.3
REPORTED = range(1, 9)
WORK = Work(work_s=48 * 3600.0, deadline_s=72 * 3600.0, restart_s=300.0, look_s=TICK_S)


@dataclass(slots=True)
class _Done:
    share_of_on_demand: float
    late: bool


def _played(spot: list[bool], *, uniform: bool) -> _Done:
    state, paid, now_s = Progress(), 0.0, 0.0
    for had in spot:
        state, place, _ = step(WORK, state, Looked(had), now_s)
        if not uniform and place == "on_demand" and not _must(state, now_s):
            place = "idle"  # greedy: there is no spot, and there is time to wait
            state = Progress(done_s=state.done_s, at_s=state.at_s)
        if state.done_s >= WORK.work_s:
            break
        paid += {"idle": 0.0, "spot": SPOT_PRICE, "on_demand": 1.0}[place] * TICK_S
        now_s += TICK_S
    return _Done(paid / WORK.work_s, late=state.done_s < WORK.work_s or now_s > WORK.deadline_s)


def _must(state: Progress, now_s: float) -> bool:
    slack_s = WORK.deadline_s - now_s - (WORK.work_s - state.done_s)
    return slack_s < 2 * WORK.restart_s + WORK.look_s


def deadline_row(*, quick: bool = False) -> Row:
    """48 hours of work in 72, in every zone of every family of worlds."""
    zones = []
    for shape in SHAPES:
        for seed in list(REPORTED)[: 1 if quick else None]:
            world = world_made(shape, seed=seed, days=3.2)
            zones += [[count > 0 for count in row] for row in world.capacity.values()]
    row = Row(
        name="deadline",
        title=f"48 hours of work in 72, on spot of one zone, {len(zones)} zones",
        columns=("cost_share", "late"),
    )
    row.figures["on demand alone"] = {"cost_share": 1.0, "late": 0}
    for name, uniform in (("greedy", False), ("uniform progress", True)):
        found = [_played(zone, uniform=uniform) for zone in zones]
        row.figures[name] = {
            "cost_share": fmean(done.share_of_on_demand for done in found),
            "late": sum(done.late for done in found),
        }
    ours = row.figures["uniform progress"]
    row.goals = [
        Goal("no work is late", ours["late"], 0),
        Goal("cost ≤ on demand alone", ours["cost_share"], 1.0),
    ]
    return row
