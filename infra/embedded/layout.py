"""Where everything of the one-machine set-up lies on disk, in one place."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
STATE_DIR_VARIABLE = "MERIDIAN_STATE_DIR"


@dataclass(frozen=True)
class Layout:
    """The paths under one state folder (``var/`` unless ``MERIDIAN_STATE_DIR`` names another)."""

    state: Path

    @classmethod
    def default(cls) -> Layout:
        """The layout that the environment asks for."""
        return cls(state=Path(os.environ.get(STATE_DIR_VARIABLE) or CHECKOUT / "var").resolve())

    @property
    def engines(self) -> Path:
        """Engines' own virtual environments: like images, not state, so ``reset`` keeps them."""
        return CHECKOUT / ".engines"

    @property
    def endpoints(self) -> Path:
        """What scripts need: addresses, the API key, the login, process ids."""
        return self.state / "endpoints.json"

    @property
    def timings(self) -> Path:
        """Seconds by phase of the last ``up``."""
        return self.state / "up-timings.json"

    @property
    def ports(self) -> Path:
        """The ports in use, remembered between starts."""
        return self.state / "ports.json"

    @property
    def instance(self) -> Path:
        """The mark that every process started for this state folder carries in its environment."""
        return self.state / "instance"

    @property
    def run(self) -> Path:
        """Sockets, locks and the record of running processes."""
        return self.state / "run"

    @property
    def supervisor_socket(self) -> Path:
        """Where the supervisor takes commands."""
        return self.run / "supervisor.sock"

    @property
    def supervisor_pid(self) -> Path:
        """Who the supervisor is: pid and start time."""
        return self.run / "supervisor.pid"

    @property
    def parts(self) -> Path:
        """The parts that should run, with the process each has; read by ``down`` without a supervisor."""
        return self.run / "parts.json"

    @property
    def logs(self) -> Path:
        """One log a part."""
        return self.state / "log"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data and its passwords."""
        return self.state / "postgres"

    @property
    def valkey(self) -> Path:
        """Valkey's configuration and append-only file."""
        return self.state / "valkey"

    @property
    def control(self) -> Path:
        """The control plane's keys and the seed's answer."""
        return self.state / "control"

    @property
    def cache(self) -> Path:
        """Models and compile caches."""
        return self.state / "cache"

    def plane(self, cluster: str) -> Path:
        """One workload plane's folder."""
        return self.state / "planes" / cluster

    def log(self, part: str) -> Path:
        """One part's log."""
        return self.logs / f"{part}.log"

    def create(self) -> None:
        """Make the folders. The state folder itself can be entered by others (PostgreSQL runs as another
        user when we are root), but listed only by its owner; all below is the owner's alone.
        """
        self.state.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.state.chmod(0o711)
        for folder in (self.run, self.logs, self.valkey, self.control, self.cache, self.state / "planes"):
            folder.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner only."""
    descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when the file is missing or broken."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
