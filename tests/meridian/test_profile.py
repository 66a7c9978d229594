"""`meridian profile run`: a curve from an engine that does what a test says, and what is made of it."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import pytest

from meridian.errors import ExitCode
from meridian.plot import curve_svg
from meridian.profiling import Measured
from tests.meridian.stand_in import run_meridian

SIZING = {
    "concurrency": 2,
    "limited_by": "ttft",
    "requests_per_s": 10.0,
    "tokens_per_s": 40.0,
    "ttft_s_p95": 0.02,
    "inter_token_latency_s_p95": 0.01,
    "max_num_seqs": 2,
    "max_num_batched_tokens": 512,
    "reasons": ["ttft p95 0.02 s at 2, goal 0.5 s"],
}


class _Engine(BaseHTTPRequestHandler):
    """An engine and a control plane in one. Every answer has four tokens."""

    protocol_version = "HTTP/1.1"
    fails: ClassVar[bool] = False
    no_size: ClassVar[bool] = False
    deployment: ClassVar[dict[str, Any]]
    connections: ClassVar[set[Any]]
    posted: ClassVar[list[tuple[str, dict[str, Any]]]]

    def do_GET(self) -> None:
        held = {"id": "old", "model": "tiny", "version": "1", "instance_type": "h100.1", "tensor_parallel": 1}
        pages = {"instance-types": {"name": "h100.1", "id": "type-1"}, "performance-profiles": held}
        found = next((item for name, item in pages.items() if name in self.path), None)
        self._json(self.deployment if found is None else {"items": [found], "next_cursor": None})

    def do_DELETE(self) -> None:
        self.posted.append((self.path, {}))
        self._json({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.startswith("/api/"):
            self.posted.append((self.path, body))
            if self.no_size:
                self._send(422, b'{"title":"refused","detail":"no goal is kept"}')
                return
            self._json(SIZING if self.path.endswith("sizing") else {"id": "profile-1"})
            return
        assert (body["ignore_eos"], body["max_tokens"]) == (True, 4)
        self.connections.add(self.client_address)
        time.sleep(0.005)
        piece = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
        usage = b'data: {"choices":[],"usage":{"prompt_tokens":33,"completion_tokens":4}}\n\n'
        self._send(503 if self.fails else 200, 4 * piece + usage + b"data: [DONE]\n\n")

    def _json(self, document: Any) -> None:
        self._send(200, json.dumps(document).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quietly."""


@pytest.fixture
def engine() -> Iterator[tuple[type[_Engine], str]]:
    class Engine(_Engine):
        deployment: ClassVar[dict[str, Any]] = {
            "model": "tiny@1",
            "slo": {"ttft_s_p95": 0.5},
            "autoscaling": {"min_replicas": 2, "max_replicas": 2},
            "replicas": {"ready": 2, "desired": 2},
        }
        connections: ClassVar[set[Any]] = set()
        posted: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Engine, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


RUN = ("profile", "run", "--stretch", "1", "--max-tokens", "4", "--input-words", "8")


def test_a_deployments_replicas_share_the_clients(engine: tuple[type[_Engine], str], tmp_path: Path) -> None:
    """Rates are of one replica; goals are the deployment's; what is kept is what was measured, and drawn."""
    program, url = engine
    picture = tmp_path / "curve.svg"
    done = run_meridian(
        url, *RUN, "--deployment", "chat", "--concurrency", "2,1", "--plot", str(picture), "--save",
        "--instance-type", "h100.1", "--replace", "-o", "json", home=tmp_path, inference_url=url,
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    told = json.loads(done.stdout)
    assert [point["concurrency"] for point in told["curve"]] == [1, 2]
    assert (
        len(program.connections) >= 1 + 2 + 4
    )  # one to begin with, then one and two for each of two replicas
    for point in told["curve"]:
        assert point["tokens_per_s"] == pytest.approx(4 * point["requests_per_s"])
        assert 0 < point["ttft_s_p50"] <= point["ttft_s_p95"]
    assert (told["input_tokens_mean"], told["slo"]) == (33.0, {"ttft_s_p95": 0.5})
    assert "/api/v1/performance-profiles/old" in dict(program.posted)
    kept = dict(program.posted)["/api/v1/performance-profiles"]
    assert (kept["model"], kept["instance_type"], kept["curve"]) == ("tiny@1", "type-1", told["curve"])
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")  # noqa: S314


def test_what_was_measured_before_is_not_lost_by_chance(
    engine: tuple[type[_Engine], str], tmp_path: Path
) -> None:
    """What is held stays, and it is said how to replace it, before minutes go into measuring."""
    program, url = engine
    done = run_meridian(
        url, *RUN, "--deployment", "chat", "--concurrency", "1", "--save", "--instance-type", "h100.1",
        home=tmp_path, inference_url=url,
    )  # fmt: skip
    assert (done.returncode, "--replace" in done.stderr) == (ExitCode.USAGE, True)
    assert (program.posted, program.connections) == ([], set())


@pytest.mark.parametrize(
    ("plot", "said"), [("none/curve.svg", "No such file or directory"), (".", "Is a directory")]
)
def test_a_picture_that_cannot_be_written_is_told_before_anything_is_measured(
    engine: tuple[type[_Engine], str], tmp_path: Path, plot: str, said: str
) -> None:
    program, url = engine
    done = run_meridian(
        url, *RUN, "--deployment", "chat", "--plot", str(tmp_path / plot), home=tmp_path, inference_url=url
    )
    assert done.returncode == ExitCode.USAGE
    assert f"--plot {tmp_path / plot}: {said}; give a file that can be written" in " ".join(
        done.stderr.split()
    )
    assert (program.posted, program.connections) == ([], set())


def test_a_curve_is_told_and_kept_before_anything_refuses_it(
    engine: tuple[type[_Engine], str], tmp_path: Path
) -> None:
    """No size, and a picture that cannot be written: neither costs what was measured."""
    program, url = engine
    measured = (
        *RUN,
        "--deployment",
        "chat",
        "--concurrency",
        "1",
        "--save",
        "--instance-type",
        "h100.1",
        "--replace",
    )
    done = run_meridian(url, *measured, "--plot", "/dev/full", home=tmp_path, inference_url=url)
    assert (done.returncode, "--plot" in done.stderr) == (ExitCode.USAGE, True)
    assert "side by side" in done.stdout
    assert "/api/v1/performance-profiles" in dict(program.posted)
    program.posted.clear()
    program.no_size = True
    done = run_meridian(url, *measured, home=tmp_path, inference_url=url)
    assert (done.returncode, "no goal is kept" in done.stderr) == (ExitCode.FAILED, True)
    assert "side by side" in done.stdout
    assert [path for path, _ in program.posted] == ["/api/v1/performance-profiles/sizing"]


def test_an_engine_is_measured_without_a_control_plane(
    engine: tuple[type[_Engine], str], tmp_path: Path
) -> None:
    """Then there is a curve and no size, and that is said."""
    _, url = engine
    done = run_meridian(
        "http://127.0.0.1:9", *RUN, "--engine-url", url, "--served-model", "m", "--concurrency", "1",
        home=tmp_path,
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    assert "side by side" in done.stdout
    assert "no size: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--deployment", "chat", "--concurrency", "0,2"], "--concurrency '0,2'"),
        (["--deployment", "chat", "--concurrency", "1,x"], "such as 1,2,4,8"),
        ([], "one of them"),
        (["--engine-url", "http://127.0.0.1:9"], "--served-model"),
        (["--deployment", "chat", "--save"], "--instance-type"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path: Path, arguments: list[str], named: str) -> None:
    """In one line, before anything is asked."""
    done = run_meridian("http://127.0.0.1:9", *RUN, *arguments, home=tmp_path)
    assert done.returncode == ExitCode.USAGE
    assert named in done.stderr


def test_what_changes_while_it_is_measured_is_refused(
    engine: tuple[type[_Engine], str], tmp_path: Path
) -> None:
    """A deployment that scales, and requests that fail: a curve of those would be none."""
    program, url = engine
    program.fails = True
    failed = run_meridian(url, *RUN, "--deployment", "chat", home=tmp_path, inference_url=url)
    assert (failed.returncode, "503" in failed.stderr) == (ExitCode.FAILED, True)
    program.deployment["autoscaling"]["max_replicas"] = 3
    scales = run_meridian(url, *RUN, "--deployment", "chat", home=tmp_path, inference_url=url)
    assert (scales.returncode, "set both to the same" in scales.stderr) == (ExitCode.USAGE, True)


def test_a_picture_of_anything_is_whole() -> None:
    """One point, equal points, names with anything in them."""
    point = Measured(
        concurrency=8,
        requests_per_s=1.0,
        tokens_per_s=0.0,
        ttft_s_p50=0.0,
        ttft_s_p95=0.0,
        inter_token_latency_s_p50=0.0,
        inter_token_latency_s_p95=0.0,
    )
    drawn = curve_svg([point], title="<chat> & co", size=99, ttft_goal_s=1.0)
    assert "nan" not in drawn
    assert "<chat> & co" in "".join(ElementTree.fromstring(drawn).itertext())  # noqa: S314
