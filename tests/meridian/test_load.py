"""`meridian load`: requests come as their course says, and each is told of once."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.arrivals import Course, Profile
from meridian.asking import Answer
from meridian.errors import ExitCode
from meridian.load import Tally, quantile
from tests.meridian.stand_in import MERIDIAN, environment, run_meridian
from tests.support.waiting import eventually

_PIECE = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
_USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'


class _System(BaseHTTPRequestHandler):
    """Control plane and endpoint in one. ``refuse``: every so many-th chat; ``gate``: none ends before it is set."""

    protocol_version = "HTTP/1.1"
    refuse: ClassVar[int] = 0
    gate: ClassVar[threading.Event]
    chats: ClassVar[list[dict[str, Any]]]
    connections: ClassVar[set[Any]]
    counting: ClassVar[threading.Lock] = threading.Lock()

    def do_GET(self) -> None:
        self._send(200, json.dumps({"replicas": {"ready": 1, "desired": 1}}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.counting:
            self.chats.append(body)
            number = len(self.chats)
        self.connections.add(self.client_address)
        self.gate.wait(30)
        if self.refuse and number % self.refuse == 0:
            self._send(429, b'{"error":{"message":"slower","code":"rate_limited"}}')
        else:
            self._send(200, _PIECE + _PIECE + _USAGE + b"data: [DONE]\n\n")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-meridian-served-region", "eu-west-1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quietly."""


class _Server(ThreadingHTTPServer):
    """Many may connect before one is accepted: on a busy machine a sixth would be turned away."""

    request_queue_size = 128


@pytest.fixture
def system() -> Iterator[tuple[type[_System], str]]:
    """Everything that the command talks to, at one address."""

    class System(_System):
        gate = threading.Event()
        chats: ClassVar[list[dict[str, Any]]] = []
        connections: ClassVar[set[Any]] = set()

    System.gate.set()
    server = _Server(("127.0.0.1", 0), System)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield System, f"http://127.0.0.1:{server.server_address[1]}"
    System.gate.set()
    server.shutdown()
    server.server_close()


def _load(url: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_meridian(url, "load", "--deployment", "chat", *arguments, home=home, inference_url=url)


def test_every_request_is_told_of_once(system: tuple[type[_System], str], tmp_path: Path) -> None:
    """What was sent is answered or failed, by kind; connections are used again."""
    program, url = system
    program.refuse = 4
    done = _load(url, tmp_path, "--rate", "60", "--duration", "1", "-o", "json")
    told = json.loads(done.stdout)
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert told["requests"] == len(program.chats) > 8
    assert told["failed"] == len(program.chats) // 4
    assert told["answered"] == told["requests"] - told["failed"]
    assert told["errors"] == {"refused: 429 rate_limited": told["failed"]}
    assert told["regions"] == {"eu-west-1": told["answered"]}
    assert told["output_tokens_per_s"] * told["span_s"] == pytest.approx(2 * told["answered"])
    assert 0 < told["ttft_s"]["p50"] <= told["ttft_s"]["p99"] <= told["duration_s"]["p99"]
    assert told["replicas"][0]["ready"] == 1
    assert len(program.connections) < len(program.chats)
    assert len({chat["messages"][0]["content"] for chat in program.chats}) == len(program.chats)


def test_a_trace_is_asked_as_it_was(system: tuple[type[_System], str], tmp_path: Path) -> None:
    """As many requests, as long and for as much, each once; when is not for options to say."""
    program, url = system
    (tmp_path / "trace.csv").write_text("timestamp,input_tokens,output_tokens\n5,3,7\n5.2,40,9\n5.1,1,2\n")
    done = _load(url, tmp_path, "--trace", "trace.csv", "-o", "json")
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert told["requests"] == 3
    asked = {(len(chat["messages"][0]["content"].split()), chat["max_tokens"]) for chat in program.chats}
    assert asked == {(3, 7), (40, 9), (1, 2)}
    refused = _load(url, tmp_path, "--trace", "trace.csv", "--duration", "5")
    assert refused.returncode == ExitCode.USAGE
    assert "leave --duration away" in refused.stderr


def test_a_trace_that_is_none_is_said_to_be(system: tuple[type[_System], str], tmp_path: Path) -> None:
    """In one line."""
    _, url = system
    (tmp_path / "trace.csv").write_text("timestamp,input_tokens,output_tokens\n5,-3,7\n")
    for name in ("trace.csv", "absent.csv", "trace.txt"):
        done = _load(url, tmp_path, "--trace", name)
        assert done.returncode == ExitCode.USAGE
        assert len(done.stderr.strip().splitlines()) == 1
        assert name.removesuffix(".csv") in done.stderr or "row 1" in done.stderr


def test_an_interrupt_ends_with_the_report(system: tuple[type[_System], str], tmp_path: Path) -> None:
    """What runs is let go, and said so."""
    program, url = system
    program.gate.clear()
    process = subprocess.Popen(
        [MERIDIAN, "load", "--deployment", "chat", "--rate", "20", "--duration", "600"],
        env=environment(url, tmp_path, inference_url=url),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: program.chats, within_s=30, what="a request has come")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == ExitCode.OK, stderr
    assert "0 answered, 0 failed" in stdout
    assert "let go" in stdout
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--rate", "2", "--low", "3"], "--low 3 is above --rate 2"),
        (["--rate", "10000", "--duration", "86400"], "lower one of them"),
        (["--rate", "0"], "--rate"),
        (["--url", "chat.example"], "is not an address"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, arguments: list[str], named: str) -> None:
    """Before anything is asked."""
    done = _load("http://127.0.0.1:9", tmp_path, *arguments)
    assert done.returncode == ExitCode.USAGE
    assert named in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


_RATES = st.floats(0.1, 50)


@given(profile=st.sampled_from(Profile), rate=_RATES, low_share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_arrivals_follow_their_course(profile: Profile, rate: float, low_share: float, seed: int) -> None:
    """In order, inside the duration, the same again for the same seed; the rate stays between low and rate."""
    low = rate * low_share
    course = Course(profile=profile, rate_per_s=rate, low_per_s=low, duration_s=40, period_s=20)
    moments = list(course.arrivals(seed))
    assert moments == sorted(moments) == list(course.arrivals(seed))
    assert all(0 < at_s < 40 for at_s in moments)
    assert all(low - 1e-9 <= course.rate_at(at_s) <= rate + 1e-9 for at_s in (0, 7, 13, 20, 39.9))


def test_a_burst_is_silent_between() -> None:
    """So that what can scale to zero does."""
    course = Course(profile=Profile.BURST, rate_per_s=50, low_per_s=0, duration_s=60, period_s=30)
    moments = list(course.arrivals(1))
    assert {int(at_s // 15) for at_s in moments} == {0, 2}
    assert 1200 < len(moments) < 1800  # 1500 expected, standard deviation 39


def test_a_request_that_had_to_wait_here_took_longer() -> None:
    """Time counts from when it was due."""
    tally = Tally()
    tally.add(Answer(outcome="ok", took_s=1.0, ttft_s=0.5), late_s=2.0, now_s=0.0)
    assert (list(tally.ttft_s), list(tally.took_s)) == ([2.5], [3.0])


def test_kinds_of_failure_are_bounded() -> None:
    """However inventive what answers is."""
    tally = Tally()
    for number in range(1000):
        tally.add(Answer(outcome="refused", error=str(number)), late_s=0.0, now_s=0.0)
    assert tally.failed == sum(tally.errors.values()) == 1000
    assert len(tally.errors) < 50


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_quantiles_are_of_what_was_seen(values: list[float], share: float) -> None:
    """At least that share does not exceed it."""
    found = quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
