"""Find a Chromium for the browser tests, installing one where there is none.

    python -m infra.embedded.browser

In this order: the one that `MERIDIAN_CHROMIUM` names, the system's, Debian's package (as root), and the
download of playwright. Prints its path; the tests call `executable()`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VARIABLE = "MERIDIAN_CHROMIUM"

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def executable() -> Path | None:
    """The Chromium that is installed; None when there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named) if Path(named).is_file() else None
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            return Path(found)
    return _playwrights_own()


def ensure() -> Path | None:
    """Install a Chromium unless one is there; None when that failed."""
    if executable() is None and not os.environ.get(VARIABLE):
        if os.geteuid() == 0 and shutil.which("apt-get"):
            _run(["apt-get", "update", "-qq"])
            _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"])
        if executable() is None:
            _run([sys.executable, "-m", "playwright", "install", "chromium"])
    return executable()


def _playwrights_own() -> Path | None:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.is_file() else None


def _run(command: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(command, env=environment, check=False, stdout=sys.stderr)


def main() -> None:
    """Ensure a Chromium from the command line; exit code 1 with one line when none can be had."""
    found = ensure()
    if found is None:
        sys.exit(f"no Chromium could be installed: install one, or set {VARIABLE} to its path")
    sys.stdout.write(f"Chromium for the browser tests: {found}\n")


if __name__ == "__main__":
    main()
