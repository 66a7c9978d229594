"""Packages of Node's registry for tests: installed once beside the virtual environment, no lock file, no scripts."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_AUTHORITIES = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))


def node_environment() -> dict[str, str]:
    """Ours, and Node trusts what this machine trusts (a company's own authority, say): by itself it does not."""
    store = next((str(path) for path in _AUTHORITIES if path.exists()), None)
    return {**({"NODE_EXTRA_CA_CERTS": store} if store else {}), **os.environ}


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
                env=node_environment(),
            )
            if result.returncode:
                pytest.fail(f"npm could not install {packages}: {result.stderr[-500:]}")
            done.touch()
    return folder
