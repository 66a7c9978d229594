"""Where the gateway's own time goes: a profile as tables by module and by function.

Calls are exact. Times are those under cProfile, which makes a call about as dear as what it does: shares count, not
sums. What C does (a decoder, a search) is booked to the function that called it.
"""

import cProfile
import pstats
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

Function = tuple[str, int, str]
_ROWS_MAX = 30
#: What is called once for each request, and once for each read of an answer.
_REQUEST = ("gateway/record.py", "record")
_READ = ("gateway/sending.py", "on_response")
_OURS = "/workloadplane/"


def table(profiled: cProfile.Profile) -> str:
    """Calls and microseconds a request, and for streams a read, by module and for the dearest functions."""
    by_function: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])
    for function, calls, seconds in _booked(pstats.Stats(profiled)):
        booked = by_function[function[0].rpartition(_OURS)[2], function[2]]
        booked[0] += calls
        booked[1] += seconds
    requests, reads = by_function[_REQUEST][0], by_function[_READ][0]
    unit, count = ("read", reads) if reads > 2 * requests else ("request", requests)
    by_module: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for (module, _), both in by_function.items():
        by_module[module] = [sum(each) for each in zip(by_module[module], both, strict=True)]
    lines = [f"\n| module | calls a {unit} | µs a {unit} |", "|---|---:|---:|"]
    lines += _lines(by_module.items(), count)
    lines += [f"\n| function | calls a {unit} | µs a {unit} |", "|---|---:|---:|"]
    lines += _lines(((f"{name} ({module})", each) for (module, name), each in by_function.items()), count)
    return "\n".join(lines) + "\n"


def _booked(stats: Any) -> Iterator[tuple[Function, int, float]]:
    """Calls and own time of each of the project's functions, and to it that of what it calls in C."""
    for function, (_, calls, seconds, _, callers) in stats.stats.items():
        if _OURS in function[0]:
            yield function, calls, seconds
        elif function[0] == "~":
            for caller, (_, _, own_s, _) in callers.items():
                if _OURS in caller[0]:
                    yield caller, 0, own_s


def _lines(booked: Iterable[tuple[str, list[float]]], count: float) -> list[str]:
    dearest = sorted(booked, key=lambda each: -each[1][1])[:_ROWS_MAX]
    return [
        f"| {name} | {calls / count:.2f} | {seconds / count * 1e6:.2f} |"
        for name, (calls, seconds) in dearest
    ]
