"""One system for all end-to-end tests: they share it as its users would."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.system import System, start, stop


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Everything up, on real vLLM where this machine can run it."""
    state = Path(tmp_path_factory.mktemp("system")) / "var"
    started = start(state, engine=None)
    try:
        yield started
    finally:
        stop(started)
        shutil.rmtree(state, ignore_errors=True)
