"""What is not HTTP/1.1 as we take it is refused, each case by a test that would pass it on otherwise."""

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloadplane.gateway.limits import Limits
from workloadplane.gateway.reader import Request, RequestReader

LIMITS = Limits(header_bytes_max=1024, body_bytes_max=4096, pipelined_requests_max=4)
OK = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


def read(data: bytes) -> tuple[list[Request], Request]:
    reader = RequestReader(LIMITS)
    reader.feed(data)
    return reader.ready, reader.request


def test_a_request_is_read_whole_and_in_pieces() -> None:
    """However the bytes are cut, the same request comes out."""
    for cut in range(len(OK) + 1):
        reader = RequestReader(LIMITS)
        reader.feed(OK[:cut])
        reader.feed(OK[cut:])
        (request,) = reader.ready
        assert request.method == b"POST"
        assert request.path == b"/v1/chat/completions"
        assert request.body == b"abc"
        assert request.failure is None
        assert request.keep_alive


def test_chunked_bodies_are_joined() -> None:
    """Chunks, extensions and trailers are framing: the body is what they carry."""
    (request,), rest = read(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nAuthorization: Bearer smuggled\r\n\r\n"
    )
    assert request.body == b"abc"
    assert b"authorization" not in request.headers
    assert rest.failure is None


HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
REFUSED = {
    "both lengths": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, other order": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "repeated length": HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "list of lengths": HEAD + b"Content-Length: 3, 3\r\n\r\nabc",
    "signed length": HEAD + b"Content-Length: +3\r\n\r\nabc",
    "negative length": HEAD + b"Content-Length: -3\r\n\r\nabc",
    "hexadecimal length": HEAD + b"Content-Length: 0x3\r\n\r\nabc",
    "length with zeros before it": HEAD + b"Content-Length: 00000000000000000003\r\n\r\nabc",
    "huge length": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "bare line feeds": b"POST / HTTP/1.1\nHost: a\nContent-Length: 3\n\nabc",
    "bare line feed after a header": HEAD + b"X: a\nY: b\r\n\r\n",
    "bare line feed at the end": HEAD + b"X: a\r\n\n",
    "bare carriage return": HEAD + b"X: a\rY: b\r\n\r\n",
    "folded header": HEAD + b"X: a\r\n b\r\n\r\n",
    "header folded with a tab": HEAD + b"X: a\r\n\tb\r\n\r\n",
    "space before the colon": HEAD + b"Content-Length : 3\r\n\r\nabc",
    "space in a name": HEAD + b"Con tent: 3\r\n\r\n",
    "empty name": HEAD + b": x\r\n\r\n",
    "control character in a value": HEAD + b"X: a\x01b\r\n\r\n",
    "null in a value": HEAD + b"X: a\x00b\r\n\r\n",
    "null in a name": HEAD + b"X\x00: a\r\n\r\n",
    "absolute form": b"GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "authority form": b"CONNECT evil:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "asterisk form": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "high bytes in the target": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two keys": HEAD + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "unknown method": b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    "unwanted method": b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n",
    "trace": b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    "method in lower case": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "version 0.9": b"GET /\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "other coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding with a tail": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "signed chunk length": HEAD + b"Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
    "chunk length too long": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "chunk without its end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "bare line feed in chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
    "upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "strange expectation": HEAD + b"Expect: magic\r\nContent-Length: 3\r\n\r\nabc",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_our_http_is_refused(case: str) -> None:
    """The message is refused, nothing after it is read, and nothing of it is passed on."""
    ready, request = read(REFUSED[case])
    assert ready == []
    assert request.failure is not None
    assert 400 <= request.failure.status < 500
    assert not request.keep_alive


@pytest.mark.parametrize(
    ("name", "data", "status"),
    [
        ("one long header", HEAD + b"X: " + b"a" * 2000 + b"\r\n\r\n", 431),
        ("many headers", HEAD + b"X: a\r\n" * 400 + b"\r\n", 431),
        ("long target", b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        ("a header without end", HEAD + b"X: " + b"a" * 2000, 431),
        ("announced body", HEAD + b"Content-Length: 5000\r\n\r\n", 413),
        ("chunked body", HEAD + b"Transfer-Encoding: chunked\r\n\r\n1800\r\n" + b"a" * 6144, 413),
    ],
)
def test_what_is_too_large_is_refused(name: str, data: bytes, status: int) -> None:
    """Each bound holds, whether the size is announced or shows only on the way."""
    ready, request = read(data)
    assert ready == []
    assert request.failure is not None
    assert request.failure.status == status


def test_chunk_extensions_and_trailers_are_bounded() -> None:
    """Framing that carries next to nothing can't be sent for ever."""
    reader = RequestReader(LIMITS)
    reader.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;")
    for _ in range(40):
        reader.feed(b"a" * 1024)
    assert reader.request.failure is not None


def test_a_chunk_extension_in_one_large_read_is_bounded_too() -> None:
    """The bound holds though head, extension and end come together; the same bytes as content would pass."""
    start = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    reader = RequestReader(Limits())
    reader.feed(start + b"3;" + b"a" * 100_000 + b"\r\nabc\r\n0\r\n\r\n")
    assert reader.ready == []
    assert reader.request.failure is not None
    assert "extensions" in reader.request.failure.message
    reader = RequestReader(Limits())
    reader.feed(start + b"186a0\r\n" + b"a" * 100_000 + b"\r\n0\r\n\r\n")
    assert [len(request.body) for request in reader.ready] == [100_000]


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_in_tiny_pieces_takes_no_more_memory_than_its_bytes(chunked: bool) -> None:
    """Two bytes at a time would cost twenty times their size if each stayed an object of its own."""
    count = 200_000
    reader = RequestReader(Limits())
    tracemalloc.start()
    if chunked:
        reader.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(count // 1000):
            reader.feed(b"2\r\nab\r\n" * 1000)
        end = b"0\r\n\r\n"
    else:
        reader.feed(HEAD + b"Content-Length: %d\r\n\r\n" % (2 * count + 1))
        for _ in range(count):
            reader.feed(b"ab")
        end = b"c"
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 3 * 2 * count
    reader.feed(end)
    (request,) = reader.ready
    assert request.body == b"ab" * count + (b"" if chunked else b"c")


def test_head_is_read_as_a_get_without_a_body_in_its_answer() -> None:
    """Health checks send HEAD; what must be left out is said by the request."""
    (request,), _ = read(b"HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (request.method, request.head_only, request.failure) == (b"GET", True, None)


@pytest.mark.parametrize(("extra", "passes"), [(0, True), (1, False)])
def test_the_bounds_that_are_in_force_unless_told_otherwise(extra: int, passes: bool) -> None:
    """16 KB of headers and 32 MB of body pass to the byte; one more is refused."""
    limits = Limits()
    assert (limits.header_bytes_max, limits.body_bytes_max) == (16 * 1024, 32 * 1024 * 1024)
    reader = RequestReader(limits)
    counted = len(b"/") + len(b"Host" + b"a") + 4 + len(b"X") + 4
    value = b"a" * (limits.header_bytes_max - counted + extra)
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + value + b"\r\n\r\n")
    assert (len(reader.ready) == 1) is passes
    reader = RequestReader(limits)
    length = limits.body_bytes_max + extra
    reader.feed(HEAD + b"Content-Length: %d\r\n\r\n" % length)
    for _ in range(32):
        reader.feed(bytes(1024 * 1024))
    assert (len(reader.ready) == 1) is passes


def test_requests_sent_ahead_are_read_in_order_and_bounded() -> None:
    """Pipelined requests come out one by one; too many of them are refused."""
    reader = RequestReader(LIMITS)
    reader.feed(OK * 3)
    assert [request.body for request in reader.ready] == [b"abc"] * 3
    assert reader.request.failure is None
    reader.feed(OK * 3)
    assert reader.request.failure is not None


_SEEDS = [OK, *REFUSED.values(), OK + OK, b"GET /livez HTTP/1.0\r\n\r\n"]


@given(
    st.sampled_from(_SEEDS),
    st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from([b"", b"\r", b"\n", b" ", b":", b"\0", b"0"])),
        max_size=4,
    ),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_what_is_read_does_not_depend_on_how_bytes_are_cut(
    seed: bytes, edits: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    """Mutated requests, cut anywhere: never a crash, and the same requests or the same refusal come out."""
    data = seed
    for number, inserted in edits:
        place = number % (len(data) + 1)
        data = data[:place] + inserted + data[place + (not inserted) :]

    def outcome(parts: list[bytes]) -> tuple[list[tuple[bytes, bytes, bytes]], int | None]:
        reader = RequestReader(LIMITS)
        for part in parts:
            reader.feed(part)
            if reader.request.failure is not None:
                break
        failure = reader.request.failure
        return [(r.method, r.path, r.body) for r in reader.ready], failure.status if failure else None

    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    assert outcome([data[start:end] for start, end in pairwise(edges)]) == outcome([data])


@pytest.mark.parametrize("begun", [b"P", b"POST", b"POST /v1"])
def test_a_request_that_has_hardly_begun_is_no_idleness(begun: bytes) -> None:
    """Its first bytes may come together with the request before it: they are here, and nowhere else."""
    reader = RequestReader(LIMITS)
    reader.feed(OK)
    assert reader.is_idle
    reader.feed(OK + begun)
    assert len(reader.ready) == 2
    assert not reader.is_idle
