"""The logs of replicas that run as processes: written by themselves, kept short by us.

A replica must outlive the agent, so it cannot write into a pipe of the agent's. It appends to a file; when
that has grown past its bound it is copied to ``<id>.log.1`` and emptied in place, which an appending writer
does not notice. What is written between the two steps is lost: some lines at most, once per rotation.
"""

import os
import shutil
from pathlib import Path

from workloadplane.runtimes.base import LogPiece, LogPosition

MAX_LOG_BYTES = 8 * 1024 * 1024
MAX_ENDED_LOGS = 20
#: A reader that is further behind than so many of its pieces is taken to the end.
_BEHIND_PIECES_MAX = 8
_MISSED = b"[some lines are missing here]\n"


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

    def after(self, replica_id: str, position: LogPosition | None, max_bytes: int) -> LogPiece | None:
        """The next ``max_bytes`` at most after a position, or the end of the log; None if there is none.

        Whole lines, but for one that alone is longer than that. Raises OSError.
        """
        rotation = _rotation(self._former(replica_id))
        if position is None:
            return self._end(replica_id, rotation, max_bytes)
        try:
            with self._current(replica_id).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                start = position.offset if position.rotation == rotation and position.offset <= size else 0
                missed = position.rotation != rotation or position.offset > size
                if size - start > max_bytes * _BEHIND_PIECES_MAX:
                    start, missed = size - max_bytes, True
                file.seek(start)
                read = file.read(max_bytes)
        except FileNotFoundError:
            return None
        lines = read if len(read) == max_bytes and b"\n" not in read else read[: read.rfind(b"\n") + 1]
        return LogPiece(
            text=((_MISSED if missed else b"") + lines).decode(errors="replace"),
            position=LogPosition(rotation=rotation, offset=start + len(lines)),
        )

    def _end(self, replica_id: str, rotation: int, max_bytes: int) -> LogPiece | None:
        """The log's last bytes, from the beginning of a line, with its last line even if that is not ended."""
        try:
            size = self._current(replica_id).stat().st_size
        except FileNotFoundError:
            return None
        ending = self.tail(replica_id, max_bytes)
        if len(ending.encode()) >= max_bytes:
            ending = ending[ending.find("\n") + 1 :]
        return LogPiece(text=ending, position=LogPosition(rotation=rotation, offset=size))

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


def _rotation(former: Path) -> int:
    """Another number after each rotation; 0 before the first."""
    try:
        return former.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _last_bytes(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - count))
            return file.read(count)
    except FileNotFoundError:
        return b""
