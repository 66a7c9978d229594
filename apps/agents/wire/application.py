"""The ASGI application of the agents' calls; everything else is passed on."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import psycopg
import psycopg_pool
import structlog
from django.db import Error as DatabaseError

from apps.agents.services.agent_enrol import agent_enrol
from apps.agents.wire.database import WireDatabase
from apps.agents.wire.doorbell import Doorbell
from apps.agents.wire.metrics import CALLS_REFUSED, WAITING
from apps.agents.wire.sync import SyncEndpoint
from apps.agents.wire.watch import WatchThread
from apps.api.problems import CONTENT_TYPE, Problem, database_unavailable, problem_of
from workloadplane.protocol.logs import LOGS_PATH, MAX_LOGS_BYTES
from workloadplane.protocol.sync import ENROL_PATH, MAX_SYNC_BYTES, SYNC_PATH, EnrolRequest

_log = structlog.get_logger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

ENROL_BYTES_MAX = 16 * 1024
BODY_TIMEOUT_S = 30.0
_BYTES_MAX = {SYNC_PATH: MAX_SYNC_BYTES, ENROL_PATH: ENROL_BYTES_MAX, LOGS_PATH: MAX_LOGS_BYTES}

_encoder = msgspec.json.Encoder()


class _Gone(Exception):
    """The agent hung up."""


class AgentWire:
    """Answers agents, passes on to ``inner`` what is not theirs, and gives everything back at shutdown."""

    def __init__(self, inner: Application) -> None:
        self._inner = inner
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: WatchThread | None = None
        self._database: WireDatabase
        self._doorbell: Doorbell
        self._sync: SyncEndpoint

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and scope["path"] in _BYTES_MAX:
            await self._http(scope, receive, send)
        else:
            await self._inner(scope, receive, send)

    async def close(self) -> None:
        """Give back the connections of the running event loop."""
        if self._loop is not None:
            self._loop = None
            await self._doorbell.close()
            await self._database.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._watch = WatchThread()
                self._watch.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._watch is not None:
                    await asyncio.to_thread(self._watch.stop)
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _ready(self) -> None:
        """Connections belong to an event loop; there is one for as long as a server runs."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._database = WireDatabase()
            self._doorbell = Doorbell()
            self._sync = SyncEndpoint(self._database, self._doorbell)
            WAITING.set_function(lambda: self._doorbell.waiters)

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        self._ready()
        try:
            status, headers, body = 200, {}, await self._answered(scope, receive)
        except _Gone:
            return
        except Exception as error:  # (the last resort: logged, and answered without a traceback)
            problem = _problem(error)
            CALLS_REFUSED.labels(status=str(problem.status)).inc()
            document = problem.document(instance=scope["path"])
            status, headers, body = problem.status, dict(problem.headers), _encoder.encode(document)
        content_type = "application/json" if status == 200 else CONTENT_TYPE
        await _respond(send, status, {"Content-Type": content_type, **headers}, body)

    async def _answered(self, scope: Message, receive: Receive) -> bytes:
        """The body of a good answer. Raises Problem, _Gone."""
        if scope["method"] != "POST":
            raise Problem("method_not_allowed", "only POST is offered here", headers={"Allow": "POST"})
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        body = await _body(receive, headers, _BYTES_MAX[scope["path"]])
        if scope["path"] == ENROL_PATH:
            request = _enrol_request(body)
            return _encoder.encode(await self._database.service(agent_enrol, request=request))
        cluster = headers.get(b"x-meridian-cluster", "")
        signature = headers.get(b"x-meridian-signature", "")
        if scope["path"] == LOGS_PATH:
            return _encoder.encode(
                await self._sync.take_logs(cluster=cluster, signature=signature, body=body)
            )
        answer = asyncio.ensure_future(self._sync.answer(cluster=cluster, signature=signature, body=body))
        return _encoder.encode(await _unless_gone(answer, receive))


async def _unless_gone(answer: "asyncio.Future[Any]", receive: Receive) -> Any:
    """The answer; given up when the agent hangs up, so that nobody is waited for in vain."""
    # In a task of our own: what a server's `receive` returns need not be one of asyncio's futures.
    hang_up = asyncio.create_task(_next_message(receive))
    try:
        await asyncio.wait({answer, hang_up}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise _Gone
        return answer.result()
    finally:
        for task in (answer, hang_up):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(answer, hang_up, return_exceptions=True)


async def _next_message(receive: Receive) -> Message:
    return await receive()


async def _body(receive: Receive, headers: dict[bytes, str], limit: int) -> bytes:
    """The whole body. Raises Problem ``body_too_large`` as soon as that is known, ``bad_request``, and _Gone."""
    too_large = Problem("body_too_large", f"the body is over {limit} bytes; send less at a time")
    announced = headers.get(b"content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > limit:
                    raise too_large
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError as error:
        raise Problem("bad_request", f"the body did not come within {BODY_TIMEOUT_S:.0f} s") from error


def _enrol_request(body: bytes) -> EnrolRequest:
    try:
        return msgspec.json.decode(body, type=EnrolRequest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem("broken_json", f"the body is no enrolment of this wire: {str(error)[:200]}") from error


def _problem(error: Exception) -> Problem:
    if isinstance(error, psycopg.OperationalError | psycopg_pool.PoolTimeout | psycopg.InterfaceError):
        return database_unavailable()
    problem = problem_of(error)
    if problem is None or isinstance(error, DatabaseError):
        _log.error("an agent's call failed", exc_info=error)
    return problem or Problem("internal", "a defect on our side; it was logged")


async def _respond(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    encoded += [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
