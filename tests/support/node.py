"""Packages of Node's registry for tests: installed once beside the virtual environment, no lock file, no scripts."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def node_modules(*packages: str) -> Path:
    """A folder whose ``node_modules`` holds these packages (``name@version``). Skips where there is no Node."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no Node here: install nodejs and npm to run what its clients do")
    folder = Path(sys.prefix) / "node-packages" / "-".join(each.replace("/", "_") for each in packages)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "installed"
        if not done.exists():
            command = [npm, "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
            result = subprocess.run(
                [*command, "--prefix", str(folder), *packages],
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            if result.returncode:
                pytest.fail(f"npm could not install {packages}: {result.stderr[-500:]}")
            done.touch()
    return folder
