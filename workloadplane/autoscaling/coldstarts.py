"""How long a launch takes here: the p90 of the last ones."""

import math

#: Cold starts that are remembered.
MAX_COLD_STARTS = 32

ColdStarts = tuple[float, ...]


def cold_start_seen(past: ColdStarts, took_s: float) -> ColdStarts:
    """The last cold starts and one more; what is no finite number above 0 is none."""
    if not math.isfinite(took_s) or took_s <= 0:
        return past
    return (*past, took_s)[-MAX_COLD_STARTS:]


def p90_s(past: ColdStarts) -> float | None:
    """The smallest of them that nine in ten did not exceed; None if none was seen."""
    if not past:
        return None
    return sorted(past)[math.ceil(0.9 * len(past)) - 1]
