"""One system for all end-to-end tests: they share it as its users would."""

from collections.abc import Iterator

import pytest

from tests.e2e.system import System, start, stop
from tests.support.state_folder import state_folder


@pytest.fixture(scope="package")
def system() -> Iterator[System]:
    """Everything up, on real vLLM where this machine can run it."""
    with state_folder("var") as state:
        started = start(state, engine=None)
        try:
            yield started
        finally:
            stop(started)
