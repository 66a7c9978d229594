"""How the parts are: running, answering, restarted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from infra.embedded import record
from infra.embedded.layout import Layout
from infra.embedded.parts import NAMES
from infra.embedded.probe import answers
from infra.embedded.supervisor_client import PartStatus, SupervisorClient


@dataclass(frozen=True)
class Report:
    """The parts as plain objects, and what is wrong in one line (empty when nothing is)."""

    parts: list[dict[str, Any]]
    trouble: str


def read(layout: Layout) -> Report:
    """Ask the supervisor and every part that can be asked."""
    client = SupervisorClient(layout)
    if not client.is_running():
        left = record.alive(layout)
        parts = [
            {"part": name, "state": "unsupervised", "pid": part.process.pid, "restarts": part.restarts}
            for name, part in left.items()
        ]
        what = (
            "the supervisor is gone: `meridian up` brings it back"
            if left
            else "Meridian is not up: `meridian up` starts it"
        )
        return Report(parts, what)
    statuses = client.status()
    with ThreadPoolExecutor(max_workers=8) as pool:
        states = list(pool.map(_state, statuses))
    parts = [
        {
            "part": part.name,
            "state": state,
            "pid": part.pid,
            "uptime_s": part.uptime_s,
            "restarts": part.restarts,
            "last_exit": part.last_exit or None,
        }
        for part, state in zip(statuses, states, strict=True)
    ]
    bad = [str(part["part"]) for part in parts if part["state"] != "running"]
    bad += sorted(NAMES - {part.name for part in statuses})
    return Report(parts, f"not running well: {', '.join(bad)}" if bad else "")


def _state(part: PartStatus) -> str:
    if part.state == "running" and part.probe and not answers(part.probe):
        return "not answering"
    return part.state
