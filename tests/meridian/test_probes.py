"""What a drill's clients note of each request, whatever becomes of it."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from meridian.probes import Probes, Seen, Watch
from tests.support.waiting import eventually

Step = Callable[["_Handler"], None]
_CHUNK = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    steps: list[Step]
    regions: dict[str, str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        step = self.steps.pop(0) if self.steps else answers
        self.streams = body["stream"]
        step(self)

    def do_GET(self) -> None:
        regions = [{"region": name, "state": state, "url": None} for name, state in self.regions.items()]
        self.send(200, json.dumps({"regions": regions}).encode())

    def send(self, status: int, body: bytes, *, promised: int | None = None) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body) if promised is None else promised))
        self.send_header("x-meridian-served-region", "us-east4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quietly."""


def answers(handler: _Handler) -> None:
    handler.send(200, _CHUNK + b"data: [DONE]\n\n" if handler.streams else b'{"choices":[]}')


def resets(handler: _Handler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def refuses(handler: _Handler) -> None:
    handler.send(503, b'{"error":{"message":"full"}}')


def breaks_off(handler: _Handler) -> None:
    handler.send(200, _CHUNK, promised=1000)
    handler.close_connection = True


def ends_in_an_error(handler: _Handler) -> None:
    handler.send(200, _CHUNK + b'data: {"error":{"message":"gone"}}\n\n')


@pytest.fixture
def handler() -> Iterator[tuple[type[_Handler], str]]:
    """A gateway that does what its ``steps`` say, then answers."""

    class Handler(_Handler):
        steps: list[Step] = []  # noqa: RUF012
        regions: dict[str, str] = {}  # noqa: RUF012

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Handler, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def first_seen(url: str) -> Seen:
    """Of one client's first request, which streams."""
    with Probes([url], "key", "chat", per_s=0.5, began_s=time.monotonic()) as probes:
        eventually(lambda: probes.seen, what="the first one has ended")
    return probes.seen[0]


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        ([answers], "ok"),
        ([resets, answers], "again"),
        ([refuses, refuses, answers], "again"),
        ([refuses, refuses, refuses, answers], "failed"),
        ([breaks_off, answers], "broken"),
        ([ends_in_an_error, answers], "broken"),
    ],
)
def test_each_request_has_one_outcome(
    handler: tuple[type[_Handler], str], steps: list[Step], outcome: str
) -> None:
    """What has not begun is asked for twice more; what has begun and breaks off is not."""
    program, url = handler
    program.steps[:] = steps
    seen = first_seen(url)
    assert seen.outcome == outcome, seen.reason
    assert (seen.ttft_s is None) == (outcome == "failed")
    assert seen.region == ("" if outcome == "failed" else "us-east4")
    assert seen.sample().keys() == {"at_s", "ttft_s", "outcome", "region"}


def test_batches_are_taken_once_in_their_order(handler: tuple[type[_Handler], str]) -> None:
    """At a steady rate, streams and others in turn."""
    _, url = handler
    with Probes([url], "key", "chat", per_s=50, began_s=time.monotonic()) as probes:
        eventually(lambda: len(probes.seen) >= 10)
        first = probes.take()
        eventually(lambda: len(probes.seen) >= len(first) + 5)
        rest = probes.take()
    assert first + rest == probes.seen[: len(first) + len(rest)]
    assert {seen.outcome for seen in probes.seen} == {"ok"}
    assert any(seen.ttft_s is None for seen in probes.seen)


def test_an_ejection_is_noted_when_it_is_first_seen(handler: tuple[type[_Handler], str]) -> None:
    """By the first gateway that answers; one that does not is passed over."""
    program, url = handler
    watch = Watch(["http://127.0.0.1:9", url], frozenset({"eu-west-1"}), time.monotonic())
    program.regions = {"eu-west-1": "suspect", "us-east4": "ejected"}
    watch.look()
    assert (watch.ejected_at_s, watch.all_healthy) == (None, False)
    program.regions = {"eu-west-1": "ejected"}
    watch.look()
    first = watch.ejected_at_s
    assert first is not None
    program.regions = {"eu-west-1": "healthy"}
    watch.look()
    assert (watch.ejected_at_s, watch.all_healthy) == (first, True)
