"""The logs of replicas that run as processes: written by themselves, kept short by us.

A replica must outlive the agent, so it cannot write into a pipe of the agent's. It appends to a file; when
that has grown past its bound it is copied to ``<id>.log.1`` and emptied in place, which an appending writer
does not notice. What is written between the two steps is lost: some lines at most, once per rotation.
"""

import os
import shutil
from pathlib import Path

MAX_LOG_BYTES = 8 * 1024 * 1024
MAX_ENDED_LOGS = 20


class ReplicaLogs:
    """The log folder of one runtime. Everything here blocks for as long as a disk takes."""

    def __init__(self, directory: Path, *, max_log_bytes: int = MAX_LOG_BYTES) -> None:
        self._directory = directory
        self._max_log_bytes = max_log_bytes

    def open(self, replica_id: str) -> int:
        """A descriptor to append to, mode 0600. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._current(replica_id), flags, 0o600)

    def tail(self, replica_id: str, max_bytes: int) -> str:
        """The last ``max_bytes`` of what was logged, over the last rotation; bytes that are no UTF-8 are replaced."""
        ending = _last_bytes(self._current(replica_id), max_bytes)
        if len(ending) < max_bytes:
            ending = _last_bytes(self._former(replica_id), max_bytes - len(ending)) + ending
        return ending.decode(errors="replace")

    def rotate(self) -> None:
        """Shorten every log that is past its bound."""
        for path in self._directory.glob("*.log"):
            try:
                if path.stat().st_size <= self._max_log_bytes:
                    continue
                former = self._former(path.stem)
                partial = former.with_suffix(".partial")
                descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with path.open("rb") as source, os.fdopen(descriptor, "wb") as target:
                    source.seek(-self._max_log_bytes, os.SEEK_END)
                    shutil.copyfileobj(source, target)
                partial.replace(former)
            except FileNotFoundError:
                continue
            os.truncate(path, 0)

    def prune(self, running: frozenset[str]) -> None:
        """Delete the logs of ended replicas but for the ``MAX_ENDED_LOGS`` written to last."""
        ended = (path for path in self._directory.glob("*.log") if path.stem not in running)
        dated = [(path.stat().st_mtime, path) for path in ended]
        for _, path in sorted(dated, reverse=True)[MAX_ENDED_LOGS:]:
            path.unlink(missing_ok=True)
            self._former(path.stem).unlink(missing_ok=True)

    def _current(self, replica_id: str) -> Path:
        return self._directory / f"{replica_id}.log"

    def _former(self, replica_id: str) -> Path:
        return self._directory / f"{replica_id}.log.1"


def _last_bytes(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - count))
            return file.read(count)
    except FileNotFoundError:
        return b""
