"""Who runs: the supervisor writes it down; the next supervisor, ``up`` and ``down`` read it.

It holds environments with passwords, so only its owner can read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from infra.embedded.layout import Layout, read_json, write_private
from infra.embedded.part import PartSpec
from infra.embedded.processes import ProcessIdentity


@dataclass(frozen=True)
class RecordedPart:
    """A part and the process it was given."""

    spec: PartSpec
    process: ProcessIdentity
    restarts: int
    started_at: float


def write(layout: Layout, parts: Mapping[str, RecordedPart]) -> None:
    """Replace the record."""
    values = {name: {**asdict(part), "spec": part.spec.to_json()} for name, part in parts.items()}
    write_private(layout.parts, json.dumps(values))


def alive(layout: Layout) -> dict[str, RecordedPart]:
    """The recorded parts whose very process still runs, supervised or not."""
    found = {}
    for name, value in read_json(layout.parts).items():
        process = ProcessIdentity(**value["process"])
        if process.is_alive():
            spec = PartSpec.from_json(value["spec"])
            found[name] = RecordedPart(spec, process, value["restarts"], value["started_at"])
    return found
