"""The pool of connections to engines, where the loop is too busy to see what happens to them."""

import socket
import time

import pytest

from tests.support.gateway import run
from workloadplane.gateway.pool import UpstreamPool
from workloadplane.gateway.upstream import Target


@pytest.mark.parametrize("ends", ["closed", "sent to", "left alone"])
def test_a_kept_connection_is_looked_at_before_its_use(ends: str) -> None:
    """What has come on it shows at once, though the loop has not had a turn since."""

    async def scenario() -> None:
        server = socket.create_server(("127.0.0.1", 0))
        pool = UpstreamPool(connect_timeout_s=1, idle_timeout_s=10, idle_connections_max=2)
        target = Target("127.0.0.1", server.getsockname()[1])
        connection = await pool.connect(target)
        engine, _ = server.accept()
        pool.release(connection)
        if ends == "closed":
            engine.close()
        elif ends == "sent to":
            engine.sendall(b"HTTP/1.1 408 X\r\n\r\n")
        time.sleep(0.1)  # noqa: ASYNC251  the loop is busy
        assert pool.take(target) is (connection if ends == "left alone" else None)
        pool.close()
        connection.abandon()
        engine.close()
        server.close()

    run(scenario())


def test_only_so_many_are_kept() -> None:
    """A connection too many is closed instead of kept, and the one used last is used first."""

    async def scenario() -> None:
        server = socket.create_server(("127.0.0.1", 0))
        pool = UpstreamPool(connect_timeout_s=1, idle_timeout_s=10, idle_connections_max=2)
        target = Target("127.0.0.1", server.getsockname()[1])
        connections = [await pool.connect(target) for _ in range(3)]
        for connection in connections:
            pool.release(connection)
        assert [pool.take(target) for _ in range(3)] == [connections[1], connections[0], None]
        for connection in connections:
            connection.abandon()
        server.close()

    run(scenario())
