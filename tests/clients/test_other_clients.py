"""litellm, langchain-openai and OpenAI's JavaScript client, unchanged, each in its own environment."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import Served
from tests.clients.environment import node_with_clients, python_with_clients
from tests.support.waiting import eventually

_PROGRAMS = Path(__file__).parent / "programs"
pytestmark = pytest.mark.slow


def outcome(served: Served, *command: str, **more: str) -> dict[str, str | None]:
    """What each check of a program came to."""
    given = {"GATEWAY_URL": served.url, "GATEWAY_KEY": served.key, "GATEWAY_MODEL": served.model, **more}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    made = subprocess.run(
        command, capture_output=True, text=True, timeout=150, env={**kept, **given}, check=False
    )
    assert made.returncode == 0, made.stderr
    lines = [json.loads(line) for line in made.stdout.splitlines() if line.startswith('{"check"')]
    return {line["check"]: line["problem"] for line in lines}


def was_left(served: Served, times: int) -> bool:
    """Whether that many requests were written down as left by their client."""
    return sum(record.outcome == "client_gone" for record in served.running.usage()) >= times


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("with_litellm.py", "chat stream tools json_schema embeddings responses errors time_out cancel"),
        (
            "with_langchain.py",
            "chat stream tools json_schema responses completions embeddings errors time_out cancel",
        ),
    ],
)
def test_a_python_library_works_unchanged(served: Served, program: str, names: str) -> None:
    """Every check of its program holds, and what the client gave up is given up by the gateway."""
    python = python_with_clients()
    assert outcome(served, str(python), str(_PROGRAMS / program)) == dict.fromkeys(names.split())
    eventually(lambda: was_left(served, 2), what="requests that their client left")


def test_openais_javascript_client_works_unchanged(served: Served) -> None:
    """As the Python one."""
    node, folder = node_with_clients()
    found = outcome(served, node, str(_PROGRAMS / "with_openai.mjs"), CLIENTS_FOLDER=str(folder))
    names = "models chat stream tools json_schema embeddings responses audio errors time_out cancel"
    assert found == dict.fromkeys(names.split())
    eventually(lambda: was_left(served, 3), what="requests that their client left")
