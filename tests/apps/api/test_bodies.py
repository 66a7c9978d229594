"""Bodies that are too large, at the door of the ASGI application."""

import asyncio
from typing import Any

import pytest
from django.conf import settings

from apps.api.bodies import BoundedBodies, Message, Receive, Send

LIMIT = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Reads its whole body as Django does, and says how long it was."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def call(chunks: list[bytes], headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes, int]:
    """Status, body, and how many chunks were read."""
    waiting = list(chunks)
    sent: list[Message] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/api/v1/models", "headers": headers}
    asyncio.run(BoundedBodies(echo)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"], len(chunks) - len(waiting)


def test_an_announced_body_is_refused_unread() -> None:
    """Not one byte of ten megabytes is taken."""
    status, body, read = call([b"x"], [(b"content-length", b"10000000")])
    assert (status, read) == (413, 0)
    assert b"urn:meridian:problem:body_too_large" in body


def test_an_unannounced_body_is_read_no_further_than_the_limit() -> None:
    """Chunked bodies have no length to look at."""
    status, _, read = call([b"x" * (LIMIT // 2)] * 10, [])
    assert (status, read) == (413, 3)


@pytest.mark.parametrize("headers", [[], [(b"content-length", str(LIMIT).encode())]])
def test_a_body_at_the_limit_passes(headers: list[tuple[bytes, bytes]]) -> None:
    """The bound is inclusive."""
    assert call([b"x" * LIMIT], headers)[:2] == (200, str(LIMIT).encode())
