"""The proxy that tests put between two parts: silence by who calls, refusals, errors, late requests.

"One way" means the calls of one caller: what A opens to B hangs, what B opens to A goes on. A caller is known by its
process: the kernel says whose the calling socket is.

A server that is dead refuses connections, and so must a proxy in front of it: whoever kills one says so
(``goes_down``), and the proxy listens again once the server does.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from infra.embedded.proxy import Proxy, Rules, Way

_ERROR = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_LOOK_EVERY_S = 0.05


#: Of Linux' sock_diag(7): one socket by its addresses. The table in /proc has all of them, and takes too long.
_SOCK_DIAG_BY_FAMILY, _REQUEST, _ALL_STATES, _ANY = 20, 1, 0xFFFFFFFF, 0xFFFFFFFF
_INODE_AT = 16 + 4 + 48 + 12 + 4


class Sockets:
    """The sockets of some processes, as the kernel has them now."""

    def __init__(self, pids: frozenset[int]) -> None:
        self._inodes = {inode for pid in pids for inode in _inodes(pid)}

    def own(self, port: int, to_port: int) -> bool:
        """Whether one of theirs goes from this port of ours to that one."""
        return bool(self._inodes) and str(_inode(port, to_port)) in self._inodes


def _inode(port: int, to_port: int) -> int:
    """Of the socket that goes from this port to that one, both of this machine; 0 if there is none."""
    here = socket.inet_aton("127.0.0.1") + bytes(12)
    wanted = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ALL_STATES)
    wanted += struct.pack("!HH", port, to_port) + here + here + struct.pack("=III", 0, _ANY, _ANY)
    head = struct.pack("=IHHII", 16 + len(wanted), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:
        kernel.send(head + wanted)
        told = kernel.recv(4096)
    if struct.unpack_from("=H", told, 4)[0] != _SOCK_DIAG_BY_FAMILY:
        return 0
    return int(struct.unpack_from("=I", told, _INODE_AT)[0])


def _inodes(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                name = str(entry.readlink())
                if name.startswith("socket:["):
                    found.append(name[8:-1])
    return found


class _Faults(Rules):
    """What its proxy has been told is wrong. ``silent``: ways that are cut."""

    def __init__(self, proxy: "FaultProxy") -> None:
        self.proxy = proxy
        self.silent: set[Way] = set()

    def opened(self, way: Way) -> None:
        if self.proxy.cuts(way.caller_port):
            self.silent.add(way)

    def cuts(self, way: Way) -> bool:
        return way in self.silent

    def delay_s(self, way: Way, *, calls: bool) -> float:
        hesitates = self.proxy.hesitates
        return hesitates() if calls and hesitates is not None else 0.0

    def answer(self, way: Way) -> bytes | None:
        return _ERROR if self.proxy.answers_errors else None


class FaultProxy(Proxy):
    """In front of ``target``.

    answers_errors: 500 to whatever is asked
    hesitates:      asked for each piece of a request: by how many seconds it is late
    """

    def __init__(self, target: tuple[str, int], port: int = 0) -> None:
        self._faults = _Faults(self)
        super().__init__(target, self._faults, port)
        self.answers_errors = False
        self.hesitates: Callable[[], float] | None = None
        self._cut_for: frozenset[int] | None = frozenset()

    def goes_down(self) -> None:
        """The server dies now: refuse until it listens again."""
        if self.listens:
            self.refuse()
            self.run(self._listen_when_it_does())

    async def _listen_when_it_does(self) -> None:
        await asyncio.sleep(_LOOK_EVERY_S)  # in which the kernel gives its port up
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(*self.target)
                writer.close()
                await self.listen()
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    def cut(self, callers: frozenset[int] | None) -> None:
        """Silence for calls of these processes; ``None``: for all."""
        self._cut_for = callers
        sockets = Sockets(callers or frozenset())
        own = {way for way in self.ways if callers is None or sockets.own(way.caller_port, self.port)}
        self._faults.silent = own
        self.changed()

    def mend(self) -> None:
        """All is well again on the way."""
        self._cut_for, self.answers_errors = frozenset(), False
        self._faults.silent.clear()
        self.changed()

    def cuts(self, port: int) -> bool:
        """Whether the caller at this port of ours gets silence."""
        if not self._cut_for:
            return self._cut_for is None
        return Sockets(self._cut_for).own(port, self.port)


@contextlib.asynccontextmanager
async def fault_proxy(port: int) -> AsyncIterator[FaultProxy]:
    """A proxy to ``port`` of this machine while the block runs."""
    made = FaultProxy(("127.0.0.1", port))
    await made.listen()
    try:
        yield made
    finally:
        made.close()
