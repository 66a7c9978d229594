"""Everything that was measured of the gateway as JSON, with the machine and the peers that it comes from."""

import dataclasses

from tests.benchmarks import goals
from tests.benchmarks.gateway import peers
from tests.benchmarks.goals import Row


def machine() -> dict[str, object]:
    """Which machine, how busy it was with other things, and which peers."""
    return {**goals.machine(), "peers": peers.versions()}


def as_json(rows: list[Row], began: dict[str, object]) -> dict[str, object]:
    """Everything that was measured."""
    told = []
    for row in rows:
        judged = [{**dataclasses.asdict(goal), "met": goal.met} for goal in row.goals]
        told.append({**dataclasses.asdict(row), "goals": judged})
    return {"machine": began, "rows": told}
