"""Access log lines go out without waiting for whoever reads them."""

import os
import socket
from pathlib import Path

from workloadplane.gateway.accesslog import AccessLine, AccessLog, unwaiting

LINE = AccessLine(
    1.0, "r", "chat", 200, "ok", "p", "k", "d", None, None, ("only",), 1, 0.0, None, 0.1, 1, 2
)  # fmt: skip


def filled(lines: int) -> AccessLog:
    log = AccessLog()
    for _ in range(lines):
        log.add(LINE)
    return log


def test_a_full_pipe_takes_the_rest_later() -> None:
    """In order and whole; and who shares the pipe still writes to it as before."""
    reads, writes = os.pipe()
    with os.fdopen(writes, "w") as stream, os.fdopen(reads, "rb", buffering=0) as reader:
        descriptor = unwaiting(stream)
        assert descriptor is not None
        log, whole = filled(5_000), filled(5_000).take()
        read = b""
        while len(read) < len(whole):
            log.write_to(descriptor)
            read += reader.read(1 << 20)
        assert read == whole
        assert log.take() == b""
        assert os.get_blocking(stream.fileno())
        os.close(descriptor)


def test_a_reader_that_has_gone_is_forgotten() -> None:
    """Nobody will read what waits, so it need not wait."""
    reads, writes = os.pipe()
    with os.fdopen(writes, "w") as stream:
        descriptor = unwaiting(stream)
        assert descriptor is not None
        os.close(reads)
        log = filled(2)
        log.write_to(descriptor)
        assert log.take() == b""
        os.close(descriptor)


def test_a_file_is_written_on(tmp_path: Path) -> None:
    """Behind what another has written there, whether it was opened to be appended to or not."""
    with (tmp_path / "log").open("w") as stream:
        descriptor = unwaiting(stream)
        assert descriptor is not None
        stream.write("before\n")
        stream.flush()
        filled(1).write_to(descriptor)
        os.close(descriptor)
    assert (tmp_path / "log").read_bytes() == b"before\n" + filled(1).take()


def test_a_socket_is_a_threads_business() -> None:
    """It can't be opened anew, and to make this one never wait would change it for everybody who shares it."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("w") as stream:
        assert unwaiting(stream) is None
