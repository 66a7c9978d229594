"""Ports for replicas on this machine.

Chosen below the range from which systems take ports for outgoing connections, for a large engine opens its
port only a minute after it was told which.
"""

import socket
import zlib
from collections.abc import Collection

FIRST_PORT = 20_000
PORTS = 10_000


def free_port(replica_id: str, *, host: str, taken: Collection[int]) -> int | None:
    """A port of ``host`` that is neither ``taken`` nor listened on; ``None`` if there is none.

    Where the search begins depends on the replica's id, so that several runtimes of one machine, which do not
    know of each other's replicas, seldom choose the same; the one that comes too late ends with "address in use".
    """
    offset = zlib.crc32(replica_id.encode())
    for step in range(PORTS):
        port = FIRST_PORT + (offset + step) % PORTS
        if port not in taken and _can_bind(host, port):
            return port
    return None


def _can_bind(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
        try:
            candidate.bind((host, port))
        except OSError:
            return False
    return True
