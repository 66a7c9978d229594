"""What a log says of why its process ended. Pure.

Engines of several processes die in a chain: the first exception is the cause, those after it tell of the
others' deaths. An exception counts where it begins a line, after the log's own prefix, not where a sentence
mentions one.
"""

import re

_CHARS_MAX = 300
_EXCEPTION = re.compile(r"(?:^|\]\s)\s*((?:\w+\.)*\w*(?:Error|Exception)(?::\s.+|))$")


def cause_in(log: str) -> str:
    """The first exception in ``log``, else its last line that is not empty; empty if there is none."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    for line in lines:
        found = _EXCEPTION.search(line)
        if found is not None:
            return found.group(1)[:_CHARS_MAX]
    return lines[-1].strip()[:_CHARS_MAX] if lines else ""
