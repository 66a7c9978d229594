"""What one part is: the program, how it is asked to end, how it shows that it answers."""

from __future__ import annotations

import hashlib
import json
import signal
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class PartSpec:
    """One program that the supervisor keeps alive.

    ``env`` is added to the environment of the supervisor. ``run_as`` names another system user (only
    PostgreSQL needs it, and only when we are root). ``successor_argv``: added to ``argv`` for a process that
    takes over from the one that runs; empty where a restart has a gap. ``probe`` is ``tcp://host:port`` or an ``http://``
    address that answers below 400 when the part is ready; empty for a part without a socket.
    """

    name: str
    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str] = field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    stop_grace_s: float = 10.0
    run_as: str = ""
    probe: str = ""
    successor_argv: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Equal for equal specs: a running part whose spec has another fingerprint is replaced."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            **asdict(self),
            "argv": list(self.argv),
            "stop_signal": int(self.stop_signal),
            "successor_argv": list(self.successor_argv),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PartSpec:
        """From plain values; raises TypeError or KeyError when they are not a spec."""
        return cls(
            **{
                **value,
                "argv": tuple(value["argv"]),
                "successor_argv": tuple(value.get("successor_argv", ())),
            }
        )
