"""How many spot instances a zone had, moment by moment: a recorded file.

The form of github.com/skypilot-org/spot-traces: ``{"metadata": {"gap_seconds": s}, "data": [instances, ...]}``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeGuard

import msgspec

from controlplane.simulation.serving.trace_rows import TraceError

#: No file is longer, and no zone has more at a moment.
CHARACTERS_MAX = 50_000_000
INSTANCES_MAX = 1_000_000
GAP_S_MAX = 86_400.0


@dataclass(frozen=True, slots=True)
class SpotTrace:
    """``instances[n]`` are to be had from n gaps on; after the end as many as at last."""

    gap_s: float
    instances: tuple[int, ...]

    @property
    def end_s(self) -> float:
        """So long it was watched."""
        return self.gap_s * len(self.instances)

    @property
    def falls_s(self) -> tuple[float, ...]:
        """When there came to be fewer than before."""
        pairs = enumerate(pairwise(self.instances), start=1)
        return tuple(index * self.gap_s for index, (before, after) in pairs if after < before)

    def at(self, now_s: float) -> int:
        """So many there are."""
        return self.instances[min(len(self.instances) - 1, int(now_s / self.gap_s + 1e-9))]


def spot_trace_of(lines: Iterable[str], name: str) -> SpotTrace:
    """What ``lines`` of the file ``name`` say. Raises TraceError that names the file, the value and what to give."""
    text, length = [], 0
    for line in lines:
        length += len(line)
        if length > CHARACTERS_MAX:
            raise TraceError(
                f"{name} has more than {CHARACTERS_MAX:,} characters: give one zone's file, or a part of it"
            )
        text.append(line)
    try:
        read = msgspec.json.decode("".join(text))
    except (msgspec.DecodeError, RecursionError) as error:
        raise TraceError(f"{name} is no JSON ({error}): {_FORM}") from None
    metadata, data = (read.get(part) if isinstance(read, dict) else None for part in ("metadata", "data"))
    gap_s = metadata.get("gap_seconds") if isinstance(metadata, dict) else None
    if not _is_number(gap_s) or not 0 < gap_s <= GAP_S_MAX:
        raise TraceError(
            f"{name}: metadata.gap_seconds is {gap_s!r:.60}: give seconds above 0, {GAP_S_MAX:g} at most"
        )
    if not isinstance(data, list) or not data:
        raise TraceError(f"{name}: data is {data!r:.60}: {_FORM}")
    for row, value in enumerate(data, start=1):
        if not _is_number(value) or value != int(value) or not 0 <= value <= INSTANCES_MAX:
            raise TraceError(
                f"{name}: row {row} of data is {value!r:.60}: give whole instances of 0 or more, "
                f"{INSTANCES_MAX:,} at most"
            )
    return SpotTrace(float(gap_s), tuple(int(value) for value in data))


_FORM = 'give {"metadata": {"gap_seconds": s}, "data": [instances, …]}'


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18
