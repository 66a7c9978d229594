import os
from pathlib import Path

from workloadplane.runtimes.replica_logs import MAX_ENDED_LOGS, ReplicaLogs


def test_a_log_is_kept_short_while_its_writer_goes_on(tmp_path: Path) -> None:
    """After a rotation the writer appends as before, the tail reaches over it, and the disk use is
    bounded.
    """
    logs = ReplicaLogs(tmp_path, max_log_bytes=100)
    descriptor = logs.open("r-1")
    for number in range(50):
        os.write(descriptor, f"line {number}\n".encode())
        logs.rotate()
    os.close(descriptor)
    assert logs.tail("r-1", 24).splitlines()[-3:] == ["line 47", "line 48", "line 49"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * 108
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r-1.log", "r-1.log.1"]


def test_the_tail_of_no_log_is_empty_and_broken_text_is_readable(tmp_path: Path) -> None:
    """A cut letter at the beginning of a tail is replaced, not an error."""
    logs = ReplicaLogs(tmp_path)
    assert logs.tail("r-1", 100) == ""
    descriptor = logs.open("r-1")
    os.write(descriptor, "über".encode())
    os.close(descriptor)
    assert logs.tail("r-1", 4) == "\ufffdber"


def test_logs_of_ended_replicas_are_forgotten_oldest_first(tmp_path: Path) -> None:
    """A bounded number stays; running replicas keep theirs, however old."""
    logs = ReplicaLogs(tmp_path)
    for number in range(MAX_ENDED_LOGS + 3):
        os.close(logs.open(f"r-{number}"))
        os.utime(tmp_path / f"r-{number}.log", (number, number))
    logs.prune(frozenset({"r-0"}))
    left = {path.stem for path in tmp_path.iterdir()}
    assert "r-0" in left
    assert len(left) == MAX_ENDED_LOGS + 1
    assert not {"r-1", "r-2"} & left
