"""When to try again: crash back-off of replicas, pauses between calls home.

Pure; randomness is an argument.
"""

from dataclasses import dataclass

#: A replica that was ready this long before it ended did not fail to start: the next one starts at once.
STEADY_S = 10.0
CRASH_BASE_S = 1.0
CRASH_CAP_S = 60.0


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """Ends in a row that came too early, and when the last one was."""

    failures: int = 0
    last_at: float = 0.0


def after_end(record: CrashRecord, *, now: float, ready_for_s: float | None) -> CrashRecord:
    """The record after a replica ended unasked; ``ready_for_s`` is None if it was never ready."""
    if ready_for_s is not None and ready_for_s >= STEADY_S:
        return CrashRecord(failures=0, last_at=now)
    return CrashRecord(failures=record.failures + 1, last_at=now)


def start_not_before(record: CrashRecord) -> float:
    """The first failure costs nothing; then 1, 2, 4 ... seconds, at most ``CRASH_CAP_S``."""
    if record.failures <= 1:
        return 0.0
    return record.last_at + min(CRASH_CAP_S, CRASH_BASE_S * 2.0 ** min(record.failures - 2, 16))


def pause_s(failures: int, *, base_s: float, cap_s: float, random: float) -> float:
    """Full jitter on the upper half: between half and all of ``base_s`` doubled per failure, capped.

    ``random`` is in [0, 1).
    """
    full = min(cap_s, base_s * 2.0 ** min(max(0, failures - 1), 16))
    return full * (0.5 + 0.5 * random)
