"""The spool: how a gateway hands usage records and metric windows to its agent without losing one.

``<directory>/<gateway_instance>/<n>.jsonl``, one directory per gateway process, segments numbered from 1. A
line is one tagged record; a segment is only appended to, and complete once the next one exists or its writer
is gone. The writer holds a lock on ``lock`` in its directory for as long as it lives, so the reader can tell
a quiet gateway from a dead one without trusting process ids. A last line without its line end was torn by the
writer's death and is passed over; sequences count from 1 without gaps, separately for usage and for windows.

The writer appends and never reads; the reader delivers what it finds until it is acknowledged, deletes
segments whose records are all acknowledged, and after a restart starts again from what is on the disk:
delivered at least once, stored once by (gateway_instance, sequence).
"""

import contextlib
import fcntl
import os
import shutil
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from workloadplane.protocol.usage import MetricWindow, UsageRecord

_log = structlog.get_logger(__name__)

SEGMENT_BYTES = 1024 * 1024
SEGMENT_AGE_S = 60.0
_LOCK_NAME = "lock"


class SpooledUsage(msgspec.Struct, frozen=True, tag="usage"):
    """A line that carries a usage record."""

    record: UsageRecord


class SpooledWindow(msgspec.Struct, frozen=True, tag="window"):
    """A line that carries a metric window."""

    record: MetricWindow


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(SpooledUsage | SpooledWindow)


class SpoolWriter:
    """A gateway process's side. Not thread-safe: one event loop owns it."""

    def __init__(self, directory: Path, gateway_instance: str, *, buffer_bytes_max: int = 1 << 26) -> None:
        """Make this instance's directory and lock it. Raises OSError when the disk refuses."""
        self.gateway_instance = gateway_instance
        self.lost_records = 0
        self._directory = directory / gateway_instance
        self._buffer = bytearray()
        self._buffer_bytes_max = buffer_bytes_max
        self._usage_sequence = 0
        self._window_sequence = 0
        self._segment = 0
        self._segment_bytes = 0
        self._segment_opened_at = 0.0
        self._descriptor: int | None = None
        self._lock = self._create_locked(directory)

    def _create_locked(self, directory: Path) -> int:
        # Locked before it has its name: a reader never meets an instance that seems dead while it is born.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        newborn = directory / f".{self.gateway_instance}"
        newborn.mkdir(mode=0o700)
        lock = os.open(newborn / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        newborn.rename(self._directory)
        return lock

    def next_usage_sequence(self) -> int:
        """The sequence that the next usage record must carry."""
        return self._usage_sequence + 1

    def next_window_sequence(self) -> int:
        """The sequence that the next metric window must carry."""
        return self._window_sequence + 1

    def append_usage(self, record: UsageRecord) -> None:
        """Buffer a record made with ``next_usage_sequence()``."""
        if self._append(SpooledUsage(record)):
            self._usage_sequence = record.sequence

    def append_window(self, record: MetricWindow) -> None:
        """Buffer a window made with ``next_window_sequence()``."""
        if self._append(SpooledWindow(record)):
            self._window_sequence = record.sequence

    def _append(self, line: SpooledUsage | SpooledWindow) -> bool:
        buffer = self._buffer
        held_bytes = len(buffer)
        _encoder.encode_into(line, buffer, held_bytes)
        if len(buffer) >= self._buffer_bytes_max:
            # The disk has refused for long. The newest is dropped, not the oldest, so that no gap appears.
            del buffer[held_bytes:]
            self.lost_records += 1
            return False
        buffer += b"\n"
        return True

    def flush(self, now_s: float) -> None:
        """Write what is buffered; begin a new segment when this one is full or old (``now_s``: monotonic).

        Raises OSError when the disk refuses; nothing is lost then, and the next flush tries again.
        """
        while self._buffer:
            descriptor = self._writable_segment(now_s)
            written = os.write(descriptor, self._buffer)
            del self._buffer[:written]
            self._segment_bytes += written
        old = self._segment_bytes and now_s - self._segment_opened_at >= SEGMENT_AGE_S
        if self._segment_bytes >= SEGMENT_BYTES or old:
            self._finish_segment()

    def _writable_segment(self, now_s: float) -> int:
        if self._descriptor is None:
            path = self._directory / f"{self._segment + 1:08d}.jsonl"
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o600)
            self._segment += 1
            self._segment_bytes = 0
            self._segment_opened_at = now_s
        return self._descriptor

    def _finish_segment(self) -> None:
        if self._descriptor is None or self._buffer:
            return
        os.close(self._descriptor)
        self._descriptor = None
        self._segment_bytes = 0
        # An empty successor tells the reader that this one is complete.
        (self._directory / f"{self._segment + 1:08d}.jsonl").touch(mode=0o600)

    def close(self, now_s: float) -> None:
        """Flush to the disk itself and release the lock: the reader may then clear the directory away."""
        self.flush(now_s)
        if self._descriptor is not None:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
        os.close(self._lock)


@dataclass(frozen=True)
class SpoolBatch:
    """Records not yet acknowledged, in order within each gateway instance."""

    usage: tuple[UsageRecord, ...]
    windows: tuple[MetricWindow, ...]


@dataclass(slots=True)
class _Instance:
    """What the reader knows of one gateway instance's directory."""

    directory: Path
    segment: int = 1
    offset: int = 0
    usage: deque[tuple[int, UsageRecord]] = field(default_factory=deque)
    windows: deque[tuple[int, MetricWindow]] = field(default_factory=deque)

    def oldest_needed_segment(self) -> int:
        heads = [queue[0][0] for queue in (self.usage, self.windows) if queue]
        return min([*heads, self.segment])


class SpoolReader:
    """An agent's side: delivers, deletes what is acknowledged. One reader per spool directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._instances: dict[str, _Instance] = {}

    def pending(self, limit: int) -> SpoolBatch:
        """Up to ``limit`` usage records and ``limit`` windows that are not acknowledged; the oldest first.

        Asked again without an acknowledgement it answers the same. Raises OSError when the disk refuses.
        """
        usage: list[UsageRecord] = []
        windows: list[MetricWindow] = []
        self._discover()
        for name in sorted(self._instances):
            instance = self._instances[name]
            wanted = limit - min(len(usage), len(windows))
            if wanted <= 0:
                break
            self._read(instance, wanted)
            usage += [record for _, record in instance.usage][: limit - len(usage)]
            windows += [record for _, record in instance.windows][: limit - len(windows)]
            self._clear(name, instance)
        return SpoolBatch(usage=tuple(usage), windows=tuple(windows))

    def acknowledge(
        self, gateway_instance: str, *, usage_sequence: int = 0, window_sequence: int = 0
    ) -> None:
        """All records of an instance up to these sequences are stored; an unknown instance is no error."""
        instance = self._instances.get(gateway_instance)
        if instance is None:
            return
        while instance.usage and instance.usage[0][1].sequence <= usage_sequence:
            instance.usage.popleft()
        while instance.windows and instance.windows[0][1].sequence <= window_sequence:
            instance.windows.popleft()
        self._clear(gateway_instance, instance)

    def _discover(self) -> None:
        try:
            names = [entry.name for entry in os.scandir(self._directory) if entry.is_dir()]
        except FileNotFoundError:
            return
        for name in names:
            if not name.startswith(".") and name not in self._instances:
                directory = self._directory / name
                segments = _segments(directory)
                first = segments[0] if segments else 1
                self._instances[name] = _Instance(directory=directory, segment=first)

    def _read(self, instance: _Instance, wanted: int) -> None:
        """Read on until ``wanted`` records of either kind are at hand or the disk has no more."""
        while len(instance.usage) < wanted and len(instance.windows) < wanted:
            # Asked before reading: a successor that appears meanwhile must not hide the last lines.
            complete = _path(instance, instance.segment + 1).exists()
            lines, consumed = _whole_lines(_path(instance, instance.segment), instance.offset)
            instance.offset += consumed
            for line in lines:
                self._take(instance, line)
            if lines:
                continue
            if not complete:
                return
            instance.segment += 1
            instance.offset = 0

    def _take(self, instance: _Instance, line: bytes) -> None:
        try:
            spooled = _decoder.decode(line)
        except msgspec.DecodeError:
            place = {"gateway_instance": instance.directory.name, "segment": instance.segment}
            _log.warning("a damaged record was passed over", **place)
            return
        if isinstance(spooled, SpooledUsage):
            instance.usage.append((instance.segment, spooled.record))
        else:
            instance.windows.append((instance.segment, spooled.record))

    def _clear(self, name: str, instance: _Instance) -> None:
        """Delete acknowledged segments, and the directory once its writer is gone and all is acknowledged."""
        needed = instance.oldest_needed_segment()
        for segment in _segments(instance.directory):
            if segment < needed:
                _path(instance, segment).unlink(missing_ok=True)
        if instance.usage or instance.windows or not _is_abandoned(instance.directory):
            return
        lines, _ = _whole_lines(_path(instance, instance.segment), instance.offset)
        if lines or _path(instance, instance.segment + 1).exists():
            return  # written between the last read and the writer's end
        shutil.rmtree(instance.directory, ignore_errors=True)
        del self._instances[name]


def _path(instance: _Instance, segment: int) -> Path:
    return instance.directory / f"{segment:08d}.jsonl"


def _segments(directory: Path) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(path.stem) for path in directory.glob("*.jsonl") if path.stem.isdigit())
    return []


def _whole_lines(path: Path, offset: int, bytes_max: int = 256 * 1024) -> tuple[list[bytes], int]:
    """Lines with their end from ``offset`` on, and how many bytes they take; a torn last line is left."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            block = file.read(bytes_max)
    except FileNotFoundError:
        return [], 0
    end = block.rfind(b"\n") + 1
    return block[:end].splitlines(), end


def _is_abandoned(directory: Path) -> bool:
    """Whether no living writer holds the directory's lock."""
    try:
        descriptor = os.open(directory / _LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
