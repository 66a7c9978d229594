"""The peers' environment: the routers of vLLM and SGLang from their wheels, pinned with hashes in ``peers.lock``.

    python -m tests.benchmarks.gateway.peers

It is kept apart from the project's own, as engines' environments are, and made anew when the list changes.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[2]
LOCK = HERE / "peers.lock"
#: Another place for it, for machines where the checkout can't be written to.
FOLDER_VARIABLE = "MERIDIAN_BENCH_PEERS"
_STAMP = "peers-lock.sha256"


def versions() -> dict[str, str]:
    """Pinned version by distribution."""
    return dict(re.findall(r"^((?:vllm|sglang)-router)==(\S+)", LOCK.read_text(), flags=re.MULTILINE))


def python() -> Path:
    """The environment's interpreter; makes the environment first if need be. Raises CalledProcessError."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return environment(LOCK, Path(folder) if folder else CHECKOUT / ".engines" / "bench-peers")


def environment(lock: Path, folder: Path) -> Path:
    """The interpreter of an environment in this folder with what is pinned there; made, or made anew, if need be.

    Raises CalledProcessError.
    """
    interpreter = folder / "bin" / "python"
    stamp = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamped = folder / _STAMP
    if not stamped.exists() or stamped.read_text() != stamp:
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)], check=True)
        install = ["pip", "install", "-q", "--python", str(interpreter), "--require-hashes", "-r", str(lock)]
        subprocess.run([*uv, *install], check=True)
        stamped.write_text(stamp)
    return interpreter


if __name__ == "__main__":
    sys.stdout.write(f"{python()} has {versions()}\n")
