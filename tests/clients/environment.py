"""Environments of client libraries that are no part of the project's own: made once, from committed lock files.

They lie under ``.clients/`` of the checkout, named by their lock file, so that a changed one makes a new
environment. Where a registry can't be reached the tests are skipped and say so; any other failure fails them.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.node import node_environment

_HERE = Path(__file__).parent / "environments"
_CHECKOUT = Path(__file__).parents[2]
_WITHIN_S = 400
_UNREACHABLE = (
    "error sending request",
    "dns error",
    "failed to fetch",
    "connection refused",
    "tunnel error",
    "enotfound",
    "eai_again",
    "econnrefused",
    "econnreset",
    "etimedout",
    "enetunreach",
    "network timeout",
)


def python_with_clients() -> Path:
    """An interpreter that has the Python libraries."""
    lock = _HERE / "python" / "requirements.lock"
    with _made_once(lock) as (folder, is_ready):
        python = folder / "bin" / "python"
        if not is_ready:
            uv = [sys.executable, "-m", "uv"]
            _run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
            pinned = ["--require-hashes", str(lock)]
            _run([*uv, "pip", "sync", "--quiet", "--python", str(python), *pinned])
        return python


def node_with_clients() -> tuple[str, Path]:
    """Node, and a folder from which the JavaScript libraries are found."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node and npm are not installed: the JavaScript client is not tried")
    with _made_once(_HERE / "javascript" / "package-lock.json") as (folder, is_ready):
        if not is_ready:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(_HERE / "javascript" / name, folder)
            _run([npm, "ci", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts"])
        return node, folder


@contextmanager
def _made_once(lock: Path) -> Iterator[tuple[Path, bool]]:
    """The folder for a lock file, and whether it is complete; it is when the block ends without an error."""
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = _CHECKOUT / ".clients" / f"{lock.parent.name}-{digest}"
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # several processes of one test run
        done = folder.with_suffix(".done")
        yield folder, done.exists()
        done.touch()


def _run(command: list[str]) -> None:
    kept = {name: value for name, value in node_environment().items() if name != "VIRTUAL_ENV"}
    try:
        made = subprocess.run(
            command, capture_output=True, text=True, env=kept, timeout=_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"`{' '.join(command[1:4])}` took longer than {_WITHIN_S} s: its clients are not tried")
    said = made.stderr + made.stdout
    if made.returncode and any(sign in said.lower() for sign in _UNREACHABLE):
        pytest.skip(f"the registry can't be reached: {said.strip().splitlines()[-1][:200]}")
    assert made.returncode == 0, said
