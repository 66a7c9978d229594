"""Decide without being stopped to look for garbage in all that was there before."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is there already is left alone by Python's search for circles of garbage until the block ends.

    To go through a thousand deployments' problem and plan takes as long as half of an answer, and finds nothing.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
