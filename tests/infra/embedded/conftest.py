"""A state folder of its own for each test, ended and swept afterwards whatever the test left running."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.embedded import credentials
from infra.embedded.layout import Layout
from infra.embedded.part import PartSpec
from infra.embedded.supervisor_client import SupervisorClient
from infra.embedded.take_down import down

# Ends at once on SIGTERM, noting the moment, so that the order of endings can be read off the files.
_PART = """
import signal, sys, time
from pathlib import Path

def end(*_):
    Path(sys.argv[1]).write_text(str(time.monotonic_ns()))
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
print("started", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """Folder names with spaces are ordinary."""
    made = Layout(state=tmp_path / "a state folder")
    made.create()
    credentials.instance_mark(made)
    yield made
    down(made, lambda _: None)


@pytest.fixture
def client(layout: Layout) -> SupervisorClient:
    """A running supervisor."""
    supervisor = SupervisorClient(layout)
    supervisor.ensure_running()
    return supervisor


def stand_in(layout: Layout, name: str, code: str = _PART) -> PartSpec:
    """A small program in the place of a part; on SIGTERM it writes when it ended to ``<name>.ended``."""
    ended = str(layout.state / f"{name}.ended")
    return PartSpec(
        name=name, argv=(sys.executable, "-c", code, ended), cwd=str(layout.state), stop_grace_s=5.0
    )
