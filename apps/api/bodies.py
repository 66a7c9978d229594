"""Bounds request bodies before Django reads them: its own limit is looked at when the body is already on the disk."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.conf import settings

from apps.api.problems import CONTENT_TYPE, Problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class BoundedBodies:
    """ASGI middleware: a body over ``DATA_UPLOAD_MAX_MEMORY_SIZE`` is a 413, announced or not.

    What announces its size is refused unread. What does not is read up to the limit; the application then sees a client
    that hung up, and the client gets its 413.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if scope["type"] != "http" or limit is None:
            await self._application(scope, receive, send)
            return
        if _announced(scope) > limit:
            await _refuse(scope, send, limit)
            return
        read = 0
        answering = False

        async def bounded_receive() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            return {"type": "http.disconnect"} if read > limit else message

        async def noted_send(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        await self._application(scope, bounded_receive, noted_send)
        if read > limit and not answering:
            await _refuse(scope, send, limit)


def _announced(scope: Message) -> int:
    text = dict(scope["headers"]).get(b"content-length", b"0")
    return int(text) if text.isdigit() else 0


async def _refuse(scope: Message, send: Send, limit: int) -> None:
    problem = Problem("body_too_large", f"the body is larger than {limit} bytes; send less")
    body = json.dumps(problem.document(instance=scope["path"])).encode()
    headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send(
        {
            "type": "http.response.start",
            "status": problem.status,
            "headers": [*headers, (b"connection", b"close")],
        }
    )
    await send({"type": "http.response.body", "body": body})
