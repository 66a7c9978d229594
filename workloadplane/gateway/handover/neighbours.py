"""This process among the others of its gateway: predecessor, successor, siblings."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import structlog

from workloadplane.gateway.dispatch import Gateway
from workloadplane.gateway.handover.desk import Desk
from workloadplane.gateway.handover.heir import Heir, ask
from workloadplane.gateway.handover.passing import Passing, unpacked
from workloadplane.gateway.handover.shards import Shards
from workloadplane.gateway.handover.wire import Loads, Pass, connect, encode, socket_path
from workloadplane.gateway.reader import Request
from workloadplane.gateway.server import ClientConnection

_log = structlog.get_logger(__name__)
_PASSING_MAX = 64
_TELL_S = 0.5


class Neighbours:
    """Owns the process's own socket and all that goes over it. ``has_successor``: another one serves by now."""

    def __init__(
        self,
        state_dir: Path,
        index: int,
        count: int,
        on_succeeded: Callable[[], None],
        on_loads: Callable[[int, bytes], None],
    ) -> None:
        self._state_dir = state_dir
        self._index = index
        self._loop = asyncio.get_running_loop()
        self._on_succeeded = on_succeeded
        self._on_loads = on_loads
        self._shards = Shards(index, count) if count > 1 else None
        self._gateway: Gateway | None = None
        self._heir: Heir | None = None
        self._desk: Desk | None = None
        self._tasks: set[asyncio.Task[bool]] = set()
        self._telling: asyncio.Task[None] | None = None
        self.has_successor = False

    async def take_over(self, host: str, port: int) -> socket.socket | None:
        """The listening socket of the process that serves, if there is one. Raises OSError if it refuses."""
        self._heir = heir = await asyncio.to_thread(ask, self._state_dir, self._index)
        if heir is None or heir.listener is None:
            return None
        has_host, has_port = heir.listener.getsockname()[:2]
        if port not in (0, has_port) or host != has_host:
            _log.warning("another address than its predecessor's", was=f"{has_host}:{has_port}")
            heir.listener.close()
            return None
        return heir.listener

    def decline(self) -> None:
        """We end before we serve: a predecessor need not stop."""
        heir, self._heir = self._heir, None
        if heir is not None:
            heir.decline()

    @property
    def succeeds(self) -> bool:
        """Whether a predecessor waits to hear that we serve."""
        return self._heir is not None

    async def open(self, gateway: Gateway, listener: socket.socket) -> None:
        """We serve: answer others, and let a predecessor stop."""
        self._gateway = gateway
        self._desk = desk = Desk(
            self._state_dir,
            self._index,
            full=lambda: gateway.draining or len(gateway.connections) >= gateway.limits.connections_max,
            adopt=self._adopt,
            on_succeeded=self._succeeded,
            on_loads=self._on_loads,
        )
        try:
            desk.open(listener)
        except OSError as error:
            _log.error("no other process can take over from this one", reason=str(error))
        heir, self._heir = self._heir, None
        if heir is not None:
            try:
                await asyncio.to_thread(heir.confirm)
            except OSError as error:
                _log.warning("the predecessor was gone before it heard", reason=str(error))
            else:
                _log.info("took over", predecessor_pid=heir.old_pid)

    def on_listener_closed(self) -> None:
        """We stop accepting: a successor gets our idle connections, but must listen for itself."""
        if self._desk is not None:
            self._desk.on_listener_closed()

    async def close(self) -> None:
        """Answer no more."""
        if self._desk is not None:
            self._desk.close()
        if self._telling is not None:
            self._telling.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _succeeded(self) -> None:
        self.has_successor = True
        self._on_succeeded()

    def _adopt(self, message: Pass, taken: socket.socket) -> None:
        gateway = self._gateway
        if gateway is None:
            taken.close()
            return
        request = unpacked(message.request) if message.request is not None else None
        task = self._loop.create_task(self._begin(gateway, request, taken))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self, gateway: Gateway, request: Request | None, taken: socket.socket) -> bool:
        try:
            await self._loop.connect_accepted_socket(lambda: ClientConnection(gateway, request), taken)
        except OSError:
            taken.close()  # the client has gone meanwhile
            return False
        return True

    def tell_loads(self, told: bytes) -> None:
        """Tell all siblings what this process has; one that does not listen goes without."""
        if self._shards is None or (self._telling is not None and not self._telling.done()):
            return
        others = [index for index in range(self._shards.count) if index != self._index]
        self._telling = self._loop.create_task(
            self._tell(encode(Loads(index=self._index, told=told)), others)
        )

    async def _tell(self, message: bytes, others: list[int]) -> None:
        for index in others:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_TELL_S):
                    with connect(socket_path(self._state_dir, index), None) as other:
                        await self._loop.sock_sendall(other, message)

    # Passing on

    def divert(self, connection: ClientConnection, request: Request, deployment_id: str) -> bool:
        """Pass a request to the process that owns its deployment's queue; whether it is on its way there."""
        if self._shards is None or request.was_passed:
            return False
        owner = self._shards.owner(deployment_id, monotonic())
        if owner == self._index or not connection.can_pass:
            return False

        def otherwise() -> None:
            if self._shards is not None:
                self._shards.note_away(owner, monotonic())
            if self._gateway is not None:
                self._gateway.handle(connection, request)

        self._pass(connection, request, owner, otherwise)
        return True

    def pass_to(self, connection: ClientConnection, request: Request, index: int) -> bool:
        """Pass a request to the process with this index; whether it is on its way there."""
        count = self._shards.count if self._shards is not None else 1
        if request.was_passed or index == self._index or not (0 <= index < count and connection.can_pass):
            return False
        self._pass(connection, request, index, connection.abort)
        return True

    def pass_idle(self, connection: ClientConnection) -> None:
        """Give an idle connection to the successor; close it if that can't be."""
        if not connection.can_pass:
            connection.close_idle()
        elif len(self._tasks) < _PASSING_MAX:  # else the next time round
            self._pass(connection, None, self._index, connection.close_idle)

    def _pass(
        self,
        connection: ClientConnection,
        request: Request | None,
        index: int,
        otherwise: Callable[[], None],
    ) -> None:
        passing = Passing(connection, request, socket_path(self._state_dir, index))
        task = passing.start(self._loop, otherwise)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
