"""Talking to the supervisor, and starting one when there is none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import CHECKOUT, Layout, read_json
from infra.embedded.part import PartSpec
from infra.embedded.processes import INSTANCE_VARIABLE, ProcessIdentity
from infra.embedded.unix_socket import socket_address

_ANSWER_WITHIN_S = 90.0
_READY_WITHIN_S = 10.0


@dataclass(frozen=True)
class PartStatus:
    """What the supervisor knows of one part."""

    name: str
    state: str
    pid: int | None
    restarts: int
    last_exit: str
    uptime_s: float | None
    probe: str


class SupervisorClient:
    """Commands to the supervisor of one state folder."""

    def __init__(self, layout: Layout) -> None:
        """No connection is held: each command opens one."""
        self._layout = layout

    def is_running(self) -> bool:
        """Whether a supervisor answers."""
        try:
            self._ask({"do": "status"}, within_s=5.0)
        except EmbeddedError:
            return False
        return True

    def identity(self) -> ProcessIdentity | None:
        """The supervisor's process, as it wrote itself down; None when it doesn't live."""
        written = read_json(self._layout.supervisor_pid)
        if not written:
            return None
        identity = ProcessIdentity(pid=written["pid"], started=written["started"])
        return identity if identity.is_alive() else None

    def ensure_running(self) -> None:
        """Start a supervisor, detached from this terminal, unless one answers. Raises EmbeddedError."""
        if self.is_running():
            return
        instance = self._layout.instance.read_text().strip()
        with self._layout.log("supervisor").open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "infra.embedded.supervisor", str(self._layout.state)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=CHECKOUT,
                env={**os.environ, INSTANCE_VARIABLE: instance},
                start_new_session=True,
            )
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self.is_running():
            if child.poll() is not None or time.monotonic() > deadline:
                raise EmbeddedError(
                    f"the supervisor did not start: see {self._layout.log('supervisor')} for the reason"
                )
            time.sleep(0.02)

    def start(self, parts: Iterable[PartSpec]) -> None:
        """Start parts, or replace those whose spec has changed. Raises EmbeddedError."""
        self._ask({"do": "start", "parts": [part.to_json() for part in parts]})

    def restart(self, part: str) -> bool:
        """Start a part anew; whether its new process took over from the old one. Raises EmbeddedError."""
        return bool(self._ask({"do": "restart", "part": part})["took_over"])

    def status(self) -> list[PartStatus]:
        """All parts in the order they were started. Raises EmbeddedError when no supervisor answers."""
        return [PartStatus(**value) for value in self._ask({"do": "status"})["parts"]]

    def publish(self, endpoints: dict[str, Any]) -> None:
        """Write ``endpoints.json``; the supervisor keeps its ``pids`` true. Raises EmbeddedError."""
        self._ask({"do": "publish", "endpoints": endpoints})

    def break_on_purpose(self, kind: str, clusters: Iterable[str], for_s: float) -> None:
        """Break regions or the control plane (``faults``); mended by itself after that. Raises EmbeddedError."""
        self._ask({"do": "break", "kind": kind, "clusters": list(clusters), "for_s": for_s})

    def break_links(self, kind: str, clusters: Iterable[str], delay_s: float = 0.0) -> None:
        """After ``break_on_purpose("links", ...)``: what is wrong between regions now. Raises EmbeddedError."""
        self._ask({"do": "links", "kind": kind, "clusters": list(clusters), "delay_s": delay_s})

    def mend(self) -> bool:
        """Put back what is broken on purpose; whether anything was. Raises EmbeddedError."""
        return bool(self._ask({"do": "mend"})["mended"])

    def release(self) -> None:
        """Let the supervisor end and leave its parts running. Raises EmbeddedError when none answers."""
        self._ask({"do": "release"}, within_s=5.0)

    def _ask(self, request: dict[str, Any], within_s: float = _ANSWER_WITHIN_S) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(self._exchange(request, within_s))
        except (OSError, ValueError) as error:
            raise EmbeddedError(f"the supervisor does not answer ({error}): run `meridian up`") from None
        if "error" in answer:
            raise EmbeddedError(f"the supervisor refused: {answer['error']}")
        return answer

    def _exchange(self, request: dict[str, Any], within_s: float) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(within_s)
            with socket_address(self._layout.supervisor_socket) as address:
                connection.connect(address)
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as answers:
                return answers.readline()
