"""Which TCP ports the parts listen on: the defaults, or free ones where a default is taken."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

from infra.embedded.layout import Layout, read_json, write_private

HOST = "127.0.0.1"
DEFAULT_PORTS = {
    "web": 8800,
    "edge": 8880,
    "gateway-eu-west": 8881,
    "gateway-us-east": 8882,
    "gateway-ap-northeast": 8883,
    "postgres": 8832,
    "valkey": 8879,
}


def choose(layout: Layout, ours: frozenset[str], say: Callable[[str], None]) -> dict[str, int]:
    """A port for every part, remembered in the state folder.

    ``ours`` names the parts that run already: their ports are taken by themselves. A port that is taken by
    someone else is replaced by a free one, and ``say`` is told.
    """
    remembered = {part: port for part, port in read_json(layout.ports).items() if isinstance(port, int)}
    chosen: dict[str, int] = {}
    for part, default in DEFAULT_PORTS.items():
        wanted = remembered.get(part, default)
        if part in ours or is_free(wanted):
            chosen[part] = wanted
            continue
        chosen[part] = free_port(avoid=frozenset(DEFAULT_PORTS.values()) | frozenset(chosen.values()))
        say(f"port {wanted} for {part} is taken: using {chosen[part]}")
    write_private(layout.ports, json.dumps(chosen, indent=2) + "\n")
    return chosen


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(avoid: frozenset[int]) -> int:
    """One that nobody listens on now, and that is none of these."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        if port not in avoid:
            return port
