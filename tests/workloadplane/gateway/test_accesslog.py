"""Access log lines go out without waiting for whoever reads them."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

import httpx
import pytest

from tests.support.gateway import (
    AUTHORIZED,
    SECRET,
    agent_state,
    gateway,
    json_answer,
    post,
    raw,
    run,
    sends,
    upstream,
)
from tests.support.gateway_program import program
from tests.support.tables import api_key
from workloadplane.gateway.accesslog import AccessLine, AccessLog
from workloadplane.gateway.outlet import Lines, outlet_of
from workloadplane.protocol.routing import RateLimits
from workloadplane.protocol.spool import SpoolReader

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
        outlet = outlet_of(stream)
        log, whole = filled(5_000), filled(5_000).take()
        read = b""
        while len(read) < len(whole):
            log.write_to(outlet)
            read += reader.read(1 << 20)
        assert read == whole
        assert log.take() == b""
        assert os.get_blocking(stream.fileno())
        outlet.close()


def pipe() -> tuple[int, int]:
    return os.pipe()


def stream_socket() -> tuple[int, int]:
    reads, writes = socket.socketpair()
    return reads.detach(), writes.detach()


@pytest.mark.parametrize("made", [pipe, stream_socket])
def test_lines_of_several_processes_do_not_mix(made: Callable[[], tuple[int, int]]) -> None:
    """However full it is: each writes on where its lines end."""
    reads, writes = made()
    line = filled(1).take()

    def write(stream: TextIO) -> None:
        outlet, log = outlet_of(stream), filled(5_000)
        while log.waits:
            log.write_to(outlet)
        outlet.close()

    with os.fdopen(writes, "w") as stream, os.fdopen(reads, "rb", buffering=0) as reader:
        with ThreadPoolExecutor(2) as pool:
            writing = [pool.submit(write, stream) for _ in range(2)]
            read = b""
            while len(read) < 2 * 5_000 * len(line):
                read += reader.read(1 << 20)
        for one in writing:
            one.result()
    assert set(read.splitlines(keepends=True)) == {line}


def test_what_it_says_of_itself_goes_out_in_one_piece(tmp_path: Path) -> None:
    """The end of the line too: processes that share a pipe would mix theirs otherwise."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    options = ("--agent-state-dir", str(tmp_path), "--state-dir", str(tmp_path), "--port", "0")
    with ours, theirs:
        made = subprocess.Popen(
            [sys.executable, "-m", "workloadplane.gateway", *options], stderr=theirs.fileno()
        )
        ours.settimeout(30)
        try:
            said = [ours.recv(1 << 16)]
            while b"gateway serves" not in said[-1]:
                said.append(ours.recv(1 << 16))
        finally:
            made.terminate()
            made.wait()
    for line in said:
        assert line.endswith(b"\n")
        json.loads(line)


def full_pipe() -> tuple[int, int]:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writes, b"x" * 4096)
    os.set_blocking(writes, True)
    return reads, writes


def full_socket() -> tuple[int, int]:
    reads, writes = socket.socketpair()
    with contextlib.suppress(BlockingIOError):
        while True:
            writes.send(b"x" * 4096, socket.MSG_DONTWAIT)
    return reads.detach(), writes.detach()


@pytest.mark.parametrize("made_full", [full_pipe, full_socket])
def test_a_reader_that_reads_no_more_does_not_keep_the_process(
    tmp_path: Path, made_full: Callable[[], tuple[int, int]]
) -> None:
    """It ends in time, and the usage of what it could not log is written down."""

    async def scenario() -> None:
        reads, writes = made_full()
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with program(state.directory, tmp_path / "gateway", stdout=writes) as made:
                assert (await raw(made.port, post(b'{"model":"chat","messages":[]}'))).startswith(
                    b"HTTP/1.1 200"
                )
                made.process.terminate()
                async with asyncio.timeout(15):
                    await made.process.wait()
        assert len(SpoolReader(tmp_path / "gateway" / "spool").pending(2).usage) == 1
        os.close(reads)
        os.close(writes)

    run(scenario())


@pytest.mark.parametrize("made_full", [full_pipe, full_socket])
def test_what_it_says_of_itself_waits_for_nobody_either(
    made_full: Callable[[], tuple[int, int]],
) -> None:
    """A line that finds no room is lost; one that was cut goes on where it was cut, before the next."""
    reads, writes = made_full()
    with os.fdopen(writes, "w") as stream, os.fdopen(reads, "rb", buffering=0) as reader:
        outlet = outlet_of(stream)
        lines = Lines(outlet)
        lines.write("lost\n")
        reader.read(1 << 20)
        long = "y" * (4 << 20) + "\n"
        lines.write(long)
        read = b""
        while len(read) < len(long):
            read += reader.read(1 << 20)
            lines.write("next\n")
        while not read.endswith(b"next\n"):
            read += reader.read(1 << 20)
        read = read.lstrip(b"x")
        assert read.startswith(long.encode())
        assert set(read[len(long) :].split(b"\n")) == {b"next", b""}
        outlet.close()


def test_a_reader_that_has_gone_is_forgotten() -> None:
    """Nobody will read what waits, so it need not wait."""
    reads, writes = os.pipe()
    with os.fdopen(writes, "w") as stream:
        outlet = outlet_of(stream)
        os.close(reads)
        log = filled(2)
        log.write_to(outlet)
        assert log.take() == b""
        outlet.close()


def test_a_file_is_written_on(tmp_path: Path) -> None:
    """Behind what another has written there, whether it was opened to be appended to or not."""
    with (tmp_path / "log").open("w") as stream:
        outlet = outlet_of(stream)
        stream.write("before\n")
        stream.flush()
        filled(1).write_to(outlet)
        outlet.close()
    assert (tmp_path / "log").read_bytes() == b"before\n" + filled(1).take()


def test_a_socket_takes_the_rest_later_and_still_waits_for_others() -> None:
    """It can't be opened anew, and to make this one never wait would change it for everybody who shares it."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("w") as stream:
        outlet = outlet_of(stream)
        log, whole = filled(5_000), filled(5_000).take()
        read = b""
        while len(read) < len(whole):
            log.write_to(outlet)
            read += theirs.recv(1 << 20)
        assert read == whole
        assert os.get_blocking(ours.fileno())
        outlet.close()


def test_what_is_refused_is_told_with_its_reason(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Whoever asks why has the id of the answer; whose it was is told where that is known, and never what it said."""
    limited = api_key(SECRET, limits=RateLimits(requests_per_minute=1))
    answers: list[httpx.Response] = []

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port, keys=[limited])
            async with (
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            ):
                chat, asks = "/v1/chat/completions", {"model": "chat", "messages": []}
                foreign = {"authorization": "Bearer canary"}
                answers.append(await client.post(chat, json=asks, headers=foreign))
                answers.append(await client.post(chat, json={**asks, "model": "canary"}))
                answers.append(await client.post(chat, content=b"canary"))
                answers.append(await client.post("/canary", json=asks))
                answers.append(await client.post(chat, json=asks))
                answers.append(await client.post(chat, json=asks))

    run(scenario())
    logged = capfdbinary.readouterr().out
    lines = [json.loads(line) for line in logged.splitlines() if line.startswith(b'{"time"')]
    assert [line["request_id"] for line in lines] == [each.headers["x-request-id"] for each in answers]
    assert [(line["status"], line["outcome"], line["reasons"]) for line in lines if not line["attempts"]] == [
        (401, "refused", ["invalid_api_key"]),
        (404, "refused", ["model_not_found"]),
        (400, "refused", ["invalid_request"]),
        (404, "refused", ["unknown_url"]),
        (429, "refused", ["rate_limit_exceeded"]),
    ]
    assert (lines[-1]["api_key_id"], lines[-1]["deployment"]) == (limited.api_key_id, "chat")
    assert b"canary" not in logged


def test_without_a_stream_lines_go_nowhere() -> None:
    """A process may be started with its standard output closed."""
    log = filled(1)
    log.write_to(outlet_of(None))
    assert not log.waits
