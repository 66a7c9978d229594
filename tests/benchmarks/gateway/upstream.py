"""An engine that costs next to nothing: canned answers from one epoll loop, no HTTP library, no event loop.

    python -m tests.benchmarks.gateway.upstream --mode small|fast|paced [--ports 4]

Prints its ports as a line of JSON, then serves until it is killed. ``small`` answers a POST at once with a chat
completion. ``fast`` streams: step by step one event for every open stream, as an engine does that decodes one
token for each sequence in a step, with no pause between steps; a stream whose socket is full is left out.
``paced`` gives every open stream an event each ``1 / rate`` seconds, their phases spread. Each event carries the
moment at which it was sent (``CLOCK_MONOTONIC`` in ns), so whoever reads it knows its delay.

Any GET is answered as a healthy engine would, for routers ask before they send.
"""

import argparse
import contextlib
import heapq
import json
import os
import select
import signal
import socket
import sys
from time import monotonic, monotonic_ns

_READ_BYTES = (
    4 * 1024
)  # of a head; a body's rest is read into one buffer, for large allocations cost page faults
_BODY_BYTES = 256 * 1024
_SEND_BUFFER_BYTES = 16 * 1024
SMALL_BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "chat",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "x" * 200}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 200, "completion_tokens": 8, "total_tokens": 208},
    }
).encode()
SMALL_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(SMALL_BODY)
    + SMALL_BODY
)
_INFO = json.dumps(
    {
        "status": "ok",
        "object": "list",
        "model_path": "chat",
        "served_model_name": "chat",
        "data": [{"id": "chat", "object": "model", "owned_by": "bench", "max_model_len": 131072}],
    }
).encode()
_TOLD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_INFO) + _INFO
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
_EVENT_HEAD = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"chat",'
    b'"choices":[{"index":0,"delta":{"content":" '
)
_EVENT_TAIL = b'"},"finish_reason":null}]}\n\n'
STREAM_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def event() -> bytes:
    """One token as a chunk, stamped with now."""
    data = b"%b%d%b" % (_EVENT_HEAD, monotonic_ns(), _EVENT_TAIL)
    return b"%x\r\n%b\r\n" % (len(data), data)


class Connection:
    """A router's connection. ``left``: events that its stream still owes, 0 = none is open."""

    __slots__ = ("buffer", "left", "missing", "rest", "socket")

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.buffer = b""
        self.missing = 0
        self.left = 0
        self.rest = b""


class Upstream:
    """See the module."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._mode = options.mode
        self._events = options.events
        self._interval_s = 1 / options.rate
        self._epoll = select.epoll()
        self._listeners: dict[int, socket.socket] = {}
        self._connections: dict[int, Connection] = {}
        self._streaming: dict[int, Connection] = {}
        self._due: list[tuple[float, int, Connection]] = []
        self._count = 0
        self._body = bytearray(_BODY_BYTES)
        self.ports = [self._listen() for _ in range(options.ports)]

    def _listen(self) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        listener.setblocking(False)
        self._listeners[listener.fileno()] = listener
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        return int(listener.getsockname()[1])

    def serve(self) -> None:
        """Until killed."""
        while True:
            for descriptor, happened in self._epoll.poll(self._pause_s(), 1024):
                listener = self._listeners.get(descriptor)
                if listener is not None:
                    self._accept(listener)
                    continue
                connection = self._connections.get(descriptor)
                if connection is None:
                    continue
                if happened & ~select.EPOLLIN:
                    self._close(descriptor, connection)
                else:
                    self._read(descriptor, connection)
            if self._mode == "fast":
                for descriptor, connection in list(self._streaming.items()):
                    self._step(descriptor, connection)
            elif self._due:
                self._send_due()

    def _pause_s(self) -> float:
        if self._mode == "fast":
            return 0 if self._streaming else 1
        return max(self._due[0][0] - monotonic(), 0) if self._due else 1

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._mode != "small":
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            self._connections[accepted.fileno()] = Connection(accepted)
            self._epoll.register(accepted.fileno(), select.EPOLLIN)

    def _close(self, descriptor: int, connection: Connection) -> None:
        connection.left = 0
        del self._connections[descriptor]
        self._streaming.pop(descriptor, None)
        connection.socket.close()

    def _read(self, descriptor: int, connection: Connection) -> None:
        if connection.missing:
            self._read_body(descriptor, connection)
            return
        try:
            data = connection.socket.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._close(descriptor, connection)
            return
        if connection.buffer:
            data = connection.buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            connection.buffer = data
            return
        connection.buffer = b""
        if data.startswith(b"GET "):
            connection.socket.send(_TOLD)
            return
        if not data.startswith(b"POST "):
            self._close(descriptor, connection)  # a router that tries whether we speak gRPC
            return
        place = data.find(b"ontent-length: ", 0, end)
        if place < 0:
            place = data.find(b"ontent-Length: ", 0, end)
        line_end = data.find(b"\r\n", place)
        missing = int(data[place + 15 : line_end]) - (len(data) - end - 4)
        if missing > 0:
            connection.missing = missing
            self._read_body(descriptor, connection)
        else:
            self._answer(descriptor, connection)

    def _read_body(self, descriptor: int, connection: Connection) -> None:
        try:
            count = connection.socket.recv_into(self._body)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            self._close(descriptor, connection)
            return
        connection.missing -= count
        if connection.missing <= 0:
            connection.missing = 0
            self._answer(descriptor, connection)

    def _answer(self, descriptor: int, connection: Connection) -> None:
        if self._mode == "small":
            connection.socket.send(SMALL_ANSWER)
            return
        connection.left = self._events
        connection.rest = STREAM_HEAD
        if self._mode == "fast":
            self._streaming[descriptor] = connection
        else:
            self._count += 1
            phase_s = self._interval_s * (self._count * 0.618 % 1)
            heapq.heappush(self._due, (monotonic() + phase_s, self._count, connection))

    def _step(self, descriptor: int, connection: Connection) -> None:
        """One token; nothing if the socket is full."""
        data = connection.rest or event()
        try:
            sent = connection.socket.send(data)
        except BlockingIOError:
            return
        except OSError:
            self._close(descriptor, connection)
            return
        was_event = not connection.rest
        connection.rest = data[sent:]
        if was_event:
            connection.left -= 1
            if connection.left == 0:
                connection.rest += STREAM_END
        if connection.left == 0 and not connection.rest:
            del self._streaming[descriptor]

    def _send_due(self) -> None:
        now_s = monotonic()
        due = self._due
        while due and due[0][0] <= now_s:
            at_s, count, connection = due[0]
            if connection.left == 0:
                heapq.heappop(due)
                continue
            # Closed (the loop is told), or full: a token lost is no token delayed.
            with contextlib.suppress(OSError):
                connection.socket.send(connection.rest + event())
            connection.rest = b""
            heapq.heapreplace(due, (at_s + self._interval_s, count, connection))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mode", choices=("small", "fast", "paced"), required=True)
    parser.add_argument("--ports", type=int, default=4, help="replicas that it stands for")
    parser.add_argument("--events", type=int, default=256, help="of a stream, after which it ends")
    parser.add_argument("--rate", type=float, default=20.0, help="events a second of a paced stream")
    parser.add_argument("--nice", type=int, default=0, help="let others of its core go first")
    options = parser.parse_args()
    os.nice(options.nice)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    upstream = Upstream(options)
    sys.stdout.write(json.dumps({"ports": upstream.ports}) + "\n")
    sys.stdout.flush()
    upstream.serve()


if __name__ == "__main__":
    main()
