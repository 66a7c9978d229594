"""Following a log that is appended to, rotated and too fast."""

from pathlib import Path

from workloadplane.runtimes.base import LogPosition
from workloadplane.runtimes.replica_logs import ReplicaLogs


def _read(logs: ReplicaLogs, position: LogPosition | None, max_bytes: int = 64) -> tuple[str, LogPosition]:
    piece = logs.after("r", position, max_bytes)
    assert piece is not None
    return piece.text, piece.position


def test_each_line_comes_once_and_what_is_missed_is_said(tmp_path: Path) -> None:
    """From the end on, in whole lines, over a rotation; a jump ahead leaves a mark."""
    logs = ReplicaLogs(tmp_path, max_log_bytes=100)
    assert logs.after("r", None, 64) is None
    log = tmp_path / "r.log"
    log.write_text("first\nsecond\n")
    text, position = _read(logs, None)
    assert text == "first\nsecond\n"
    with log.open("a") as engine:
        engine.write("third\nfour")
    text, position = _read(logs, position)
    assert text == "third\n"
    with log.open("a") as engine:
        engine.write("th\n" + "x" * 100 + "\n")
    text, position = _read(logs, position, 20)
    assert text == "fourth\n"
    text, position = _read(logs, position, 20)
    assert text == "x" * 20, "a line longer than a piece comes in pieces"
    logs.rotate()
    log.write_text("after\n")
    text, position = _read(logs, position)
    assert text == "[some lines are missing here]\nafter\n"
    with log.open("a") as engine:
        engine.write("fast\n" * 200)
    text, position = _read(logs, position, 50)
    assert text == "[some lines are missing here]\n" + "fast\n" * 10
    assert _read(logs, position)[0] == ""
