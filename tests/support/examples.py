"""How many examples a property is tried on."""

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

#: ``make test-long`` takes its time.
LONG = bool(os.environ.get("MERIDIAN_LONG_TESTS"))


def examples(count: int) -> int:
    """``count`` in ``make test-long``. ``make test`` tries a third, other ones in every run."""
    return count if LONG else count // 3


def thinned(cases: Sequence[T], start: int) -> Sequence[T]:
    """All in ``make test-long``; ``make test`` tries every third one, the same in every run, others by ``start``."""
    return cases if LONG else cases[start % 3 :: 3]
