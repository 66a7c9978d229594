"""Load from one epoll loop: closed loops of small requests, open streams, idle connections.

    python -m tests.benchmarks.gateway.load posts|streams|idle --port N [...]

What it measured is printed as one line of JSON, times in ms. It is written to cost a few microseconds a request,
so that on a core shared with the upstream neither is what limits a run.
"""

import argparse
import json
import re
import select
import socket
import struct
import sys
from time import monotonic_ns, perf_counter

_STAMP = re.compile(rb'"content":" (\d+)"')
_CLOSE_AT_ONCE = struct.pack("ii", 1, 0)
_ANSWER_BYTES = 4 * 1024
_STREAM_BYTES = 32 * 1024


def prompts(count: int, size: int) -> list[str]:
    """Different prompts of ``size`` characters, a quarter of it common to all, as a system prompt would be."""
    common = "You are a helpful assistant that answers briefly and to the point. "
    common = (common * (size // 4 // len(common) + 1))[: size // 4]
    made = []
    for number in range(count):
        words = f"question {number} asks about the {number * 7919 % 10007}th thing of all things, "
        made.append(common + (words * (size // len(words) + 1))[: size - len(common)])
    return made


def requests(options: argparse.Namespace) -> list[bytes]:
    """Whole requests to send, in bytes."""
    made = []
    for prompt in prompts(options.prompts, options.prompt_bytes):
        body = json.dumps(
            {
                "model": "chat",
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": 64,
                "stream": options.what == "streams",
            }
        ).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"user-agent: bench\r\nauthorization: Bearer {options.key}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


def quantiles_ms(values_s: list[float]) -> dict[str, float]:
    """Median, 99th percentile and the largest."""
    ordered = sorted(values_s)
    if not ordered:
        return {"p50": 0.0, "p99": 0.0, "max": 0.0}
    return {
        "p50": ordered[len(ordered) // 2] * 1000,
        "p99": ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)] * 1000,
        "max": ordered[-1] * 1000,
    }


def connect(port: int) -> socket.socket:
    """A connection that leaves no trace when it is closed: tens of thousands are made in one run."""
    made = socket.create_connection(("127.0.0.1", port), timeout=30)
    made.settimeout(None)  # with one, Python would ask the kernel twice for every read
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_AT_ONCE)
    return made


def is_whole(answer: bytes) -> bool:
    """Whether an answer is complete. Raises RuntimeError for any but a 200."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"not a 200: {answer[:300]!r}")
    place = answer.find(b"ontent-length: ", 0, end)
    if place < 0:
        return answer.endswith(b"0\r\n\r\n")
    return len(answer) - end - 4 >= int(answer[place + 15 : answer.find(b"\r\n", place)])


class Posts:
    """``connections`` that each send the next request once the answer to the last one is whole."""

    def __init__(self, port: int, sent: list[bytes], connections: int) -> None:
        self._sent = sent
        self._next = 0
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._began: dict[int, float] = {}
        self._rest: dict[int, bytes] = {}
        self._unsent: dict[int, bytes] = {}
        for _ in range(connections):
            made = connect(port)
            made.setblocking(False)
            self._sockets[made.fileno()] = made
            self._epoll.register(made.fileno(), select.EPOLLIN)

    def run(self, seconds: float) -> tuple[list[float], float]:
        """Durations of all that were answered, and how long it took."""
        durations: list[float] = []
        start_s = perf_counter()
        until_s = start_s + seconds
        for descriptor in self._sockets:
            self._send(descriptor)
        open_now = len(self._sockets)
        while open_now:
            ready = self._epoll.poll(20)
            if not ready:
                raise RuntimeError("no answer for 20 s")
            for descriptor, happened in ready:
                if happened & select.EPOLLOUT:
                    self._go_on(descriptor)
                    continue
                answer = self._sockets[descriptor].recv(_ANSWER_BYTES)
                if not answer:
                    raise RuntimeError("the connection was closed")
                rest = self._rest.pop(descriptor, None)
                if rest is not None:
                    answer = rest + answer
                if not is_whole(answer):
                    self._rest[descriptor] = answer
                    continue
                now_s = perf_counter()
                durations.append(now_s - self._began[descriptor])
                if now_s < until_s:
                    self._send(descriptor)
                else:
                    open_now -= 1
        return durations, perf_counter() - start_s

    def _send(self, descriptor: int) -> None:
        request = self._sent[self._next % len(self._sent)]
        self._next += 1
        self._began[descriptor] = perf_counter()
        sent = self._sockets[descriptor].send(request)
        if sent < len(request):
            self._unsent[descriptor] = request[sent:]
            self._epoll.modify(descriptor, select.EPOLLIN | select.EPOLLOUT)

    def _go_on(self, descriptor: int) -> None:
        unsent = self._unsent[descriptor]
        unsent = unsent[self._sockets[descriptor].send(unsent) :]
        self._unsent[descriptor] = unsent
        if not unsent:
            self._epoll.modify(descriptor, select.EPOLLIN)

    def close(self) -> None:
        for made in self._sockets.values():
            made.close()


def posts(options: argparse.Namespace) -> dict[str, object]:
    """Small or large requests in a closed loop."""
    load = Posts(options.port, requests(options), options.connections)
    load.run(options.warmup)
    durations, elapsed_s = load.run(options.seconds)
    load.close()
    return {
        "requests": len(durations),
        "per_s": len(durations) / elapsed_s,
        "duration": quantiles_ms(durations),
    }


def streams(options: argparse.Namespace) -> dict[str, object]:
    """Streams kept open; one that ends is asked for again. Counts events and how late they came."""
    sent = requests(options)
    epoll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    rest: dict[int, bytes] = {}
    for number in range(options.connections):
        made = connect(options.port)
        sockets[made.fileno()] = made
        rest[made.fileno()] = b""
        epoll.register(made.fileno(), select.EPOLLIN)
        made.sendall(sent[number % len(sent)])
    begun = 0
    begin_s = perf_counter()
    from_s, until_s = begin_s + options.warmup, begin_s + options.warmup + options.seconds
    delays: list[float] = []
    counted_from_s: float | None = None
    while perf_counter() < until_s:
        for descriptor, _ in epoll.poll(1):
            data = sockets[descriptor].recv(_STREAM_BYTES)
            now_ns = monotonic_ns()
            if not data:
                raise RuntimeError("the stream's connection was closed")
            if b"HTTP/1.1 " in data and b"HTTP/1.1 200" not in data:
                raise RuntimeError(f"not a 200: {data[:300]!r}")
            data = rest[descriptor] + data
            if counted_from_s is not None:
                delays += [(now_ns - int(stamp)) / 1e9 for stamp in _STAMP.findall(data)]
            rest[descriptor] = data[data.rfind(b"\n\n") + 1 :] if b"\n\n" in data else data
            if data.endswith(b"0\r\n\r\n"):
                rest[descriptor] = b""
                begun += 1
                sockets[descriptor].sendall(sent[begun % len(sent)])
        if counted_from_s is None and perf_counter() >= from_s:
            counted_from_s = perf_counter()
    elapsed_s = perf_counter() - (counted_from_s or from_s)
    if options.linger:
        sys.stdout.write("{}\n")
        sys.stdout.flush()
        sys.stdin.readline()
    for made in sockets.values():
        made.close()
    return {"chunks": len(delays), "per_s": len(delays) / elapsed_s, "delay": quantiles_ms(delays)}


def idle(options: argparse.Namespace) -> dict[str, object]:
    """Connections that were used once and stay open, and what a busy one notices of them.

    Between opening and the second measurement it says ``{}`` and waits for a line, so that the caller can look
    at the other side's memory.
    """
    sent = requests(options)
    load = Posts(options.port, sent, 1)
    load.run(options.warmup)
    before, _ = load.run(options.seconds)
    kept = []
    for number in range(options.connections):
        made = connect(options.port)
        made.sendall(sent[number % len(sent)])
        kept.append(made)
        if number % 50 == 49 or number == options.connections - 1:
            for each in kept[number - number % 50 :]:
                answer = b""
                while not is_whole(answer):
                    received = each.recv(_ANSWER_BYTES)
                    if not received:
                        raise RuntimeError("an idle connection was closed")
                    answer += received
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    sys.stdin.readline()
    after, _ = load.run(options.seconds)
    load.close()
    for made in kept:
        made.close()
    return {"before": quantiles_ms(before), "after": quantiles_ms(after)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("posts", "streams", "idle"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", default="none")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--prompts", type=int, default=256, help="different prompts, used in turn")
    parser.add_argument("--prompt-bytes", type=int, default=1024)
    parser.add_argument("--linger", action="store_true", help="keep streams open until a line comes")
    options = parser.parse_args()
    measured = {"posts": posts, "streams": streams, "idle": idle}[options.what](options)
    sys.stdout.write(json.dumps(measured) + "\n")


if __name__ == "__main__":
    main()
