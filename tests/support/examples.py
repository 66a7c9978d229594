"""How many examples a property is tried on."""

import os

#: ``make test-long`` takes its time.
LONG = bool(os.environ.get("MERIDIAN_LONG_TESTS"))


def examples(count: int) -> int:
    """``count`` in ``make test-long``. ``make test`` tries a third, other ones in every run."""
    return count if LONG else count // 3
