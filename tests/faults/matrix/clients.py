"""A hundred clients that ask without a pause, and what each of them saw.

Half of them stream. Two thirds ask the edge, the others the gateways themselves, each by a list of its own, as a client
does that knows the regions. What has not begun and fails is asked for again twice, as the usual libraries do (0.5 and
1 s later, or when the answer says); what began and broke is not. A gateway that takes no connection
costs who has a list nothing: the next one is asked, as nothing was sent.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from time import monotonic

from tests.faults.chaos import unchunked
from workloadplane.gateway.resume.rewriting import MARK

CLIENTS = 100
TRIES = 3
_RETRY_AFTER_S_MAX = 10.0
EDGE = "edge"


@dataclass(slots=True)
class Attempt:
    """One request on one connection. Times monotonic; ``first_s``: of the first byte.

    door: ``edge`` or the cluster whose gateway was asked
    end:  whole | error event (a stream says that it broke) | cut (it began, and just ends) | refused (an answer that is
          no success) | broken (not a byte came)
    code: of an answer that is no success, ``error.code``
    """

    request_id: str
    door: str
    began_s: float
    first_s: float = 0.0
    ended_s: float = 0.0
    end: str = "broken"
    status: int = 0
    code: str = ""
    replica_id: str = ""
    resumed: bool = False
    retry_after_s: float = 0.0

    @property
    def failed(self) -> bool:
        return self.end != "whole"

    @property
    def is_final(self) -> bool:
        """Whether it makes no sense to ask again."""
        return 400 <= self.status < 500 and self.status not in (408, 409, 429)


@dataclass(slots=True)
class Asked:
    """What a client wanted, and its attempts."""

    deployment: str
    streams: bool
    attempts: list[Attempt] = field(default_factory=list)
    is_over: bool = False

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]


@dataclass
class Load:
    """The clients.

    doors:               name -> port
    lag_s:               the most by which this process was late since that was set
    first_byte_within_s: how long each waits for it, and silence_s_max: for the next
    """

    doors: Mapping[str, int]
    key: str
    deployments: tuple[str, ...]
    seed: int = 0
    asked: list[Asked] = field(default_factory=list)
    lag_s: float = 0.0
    first_byte_within_s: float = 10.0
    silence_s_max: float = 15.0
    stream_tokens: int = 16
    rest_s: tuple[float, float] = (1.0, 3.5)
    _over: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, clients: int = CLIENTS) -> None:
        self._over = False
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(clients)]
        self._tasks.append(asyncio.create_task(self._watch_lag()))

    async def stop(self) -> None:
        """When each has ended what it began."""
        self._over = True
        await asyncio.gather(*self._tasks)

    async def _watch_lag(self) -> None:
        while not self._over:
            before_s = monotonic()
            await asyncio.sleep(0.02)
            self.lag_s = max(self.lag_s, monotonic() - before_s - 0.02)

    async def _client(self, number: int) -> None:
        rng = Random(f"{self.seed}-{number}")
        gateways = [name for name in self.doors if name != EDGE]
        rng.shuffle(gateways)
        doors = gateways if gateways and number % 3 == 2 else [EDGE]
        deployment = self.deployments[(number // 2) % len(self.deployments)]
        count = 0
        while not self._over:
            await asyncio.sleep(rng.uniform(*self.rest_s))
            count += 1
            asked = Asked(deployment, number % 2 == 0)
            self.asked.append(asked)
            body = self._body(asked, f"{number} asks for the {count}. time")
            for again in range(TRIES):
                one = await self._try(asked, f"m{self.seed}-{number}-{count}-{again}", doors, body)
                if one.end not in ("broken", "refused") or one.is_final:
                    break
                doors = doors[1:] + doors[:1]
                if again < TRIES - 1:
                    await asyncio.sleep(min(_RETRY_AFTER_S_MAX, max(0.5 * 2**again, one.retry_after_s)))
            asked.is_over = True

    def _body(self, asked: Asked, prompt: str) -> bytes:
        members = {
            "model": asked.deployment,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self.stream_tokens if asked.streams else 6,
            "temperature": 0,
            "ignore_eos": True,
            **({"stream": True} if asked.streams else {}),
        }
        return json.dumps(members).encode()

    async def _try(self, asked: Asked, request_id: str, doors: list[str], body: bytes) -> Attempt:
        """At the first door that opens."""
        one = Attempt(request_id, doors[0], monotonic())
        asked.attempts.append(one)
        said = bytearray()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(self.first_byte_within_s) as limit:
                reader, writer = await self._opened(one, doors)
                try:
                    writer.write(self._head(request_id, len(body)) + body)
                    while data := await reader.read(65536):
                        one.first_s = one.first_s or monotonic()
                        limit.reschedule(asyncio.get_running_loop().time() + self.silence_s_max)
                        said += data
                finally:
                    writer.close()
        one.ended_s = monotonic()
        judge(one, bytes(said), streams=asked.streams)
        return one

    async def _opened(
        self, one: Attempt, doors: list[str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for one.door in doors:
            try:
                return await asyncio.open_connection("127.0.0.1", self.doors[one.door])
            except ConnectionRefusedError:
                continue
        raise ConnectionRefusedError

    def _head(self, request_id: str, length: int) -> bytes:
        return (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: meridian\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {length}\r\nx-request-id: {request_id}\r\n"
            "connection: close\r\n\r\n"
        ).encode()


def judge(one: Attempt, said: bytes, *, streams: bool) -> None:
    """What became of it, by the bytes that came."""
    if not said:
        return
    head, _, rest = said.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    one.status = int(lines[0][9:12] or 0) if len(lines[0]) > 11 else 0
    one.replica_id = headers.get(b"x-meridian-replica", b"").decode()
    if b"transfer-encoding" in headers:
        sound, rest = unchunked(rest)
    else:
        sound = len(rest) == int(headers.get(b"content-length", b"-1"))
    if one.status != 200:
        one.end = "refused"
        one.retry_after_s = float(headers.get(b"retry-after", b"0") or 0)
        if sound and rest.startswith(b"{"):
            one.code = str((json.loads(rest).get("error") or {}).get("code") or "")
        return
    one.resumed = MARK in rest
    one.end = "cut"
    if streams and b"event: error\n" in rest and b"data: [DONE]" not in rest:
        one.end = "error event"
    elif sound and (not streams or rest.endswith(b"data: [DONE]\n\n")):
        one.end = "whole"
