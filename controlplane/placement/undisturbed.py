"""Decide without being stopped to look for garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """Python searches for no circles of garbage until the block ends: for what is over within a second or two.

    Deciding leaves none behind, and to go through a thousand deployments' problem and plan takes as long as a third of
    an event's answer.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
