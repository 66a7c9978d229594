"""Load on a deployment: requests come when they come, whether or not those before them have ended.

So a slow answer does not hide that others wait: what a request took is counted from when it was due, also where it
had to wait here for a connection.
"""

import asyncio
import math
import random
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from meridian.arrivals import Course, Recorded
from meridian.asking import Answer, ask
from meridian.client import KEEP_ALIVE_S

#: More kinds of failures than these are told as one.
_ERRORS_TOLD_MAX = 24
#: What a live line looks back on.
RECENT_S = 5.0
_RECENT_MAX = 2000
_CONNECT_S = 10.0
#: Short and common: to most tokenizers each is one token.
_VOCABULARY = (
    "bell",
    "cable",
    "deck",
    "east",
    "gale",
    "hull",
    "isle",
    "jetty",
    "keel",
    "lamp",
    "mast",
    "north",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is asked, and how much of it.

    input_words: of each prompt; no two prompts are alike
    options:     further members of each request
    """

    url: str
    api_key: str
    model: str
    input_words: int
    max_tokens: int
    stream: bool = True
    timeout_s: float = 300.0
    options: dict[str, Any] = field(default_factory=dict)

    def client(self, in_flight_max: int) -> httpx.AsyncClient:
        """Connections for so many requests at once, kept alive between them."""
        limits = httpx.Limits(
            max_connections=in_flight_max,
            max_keepalive_connections=in_flight_max,
            keepalive_expiry=KEEP_ALIVE_S,
        )
        headers = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        timeout = httpx.Timeout(self.timeout_s, connect=min(_CONNECT_S, self.timeout_s))
        return httpx.AsyncClient(headers=headers, timeout=timeout, limits=limits)

    def body(self, number: int, seed: int) -> dict[str, Any]:
        """The request with this number; the same for the same seed."""
        chance = random.Random(f"{seed}:{number}")  # noqa: S311
        words = " ".join(chance.choices(_VOCABULARY, k=self.input_words))
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": words}],
            "max_tokens": self.max_tokens,
            "stream": self.stream,
            **self.options,
        }
        return {**body, "stream_options": {"include_usage": True}} if self.stream else body


class Tally:
    """What became of all requests so far. Times are exact, not by buckets: 8 bytes each."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.ttft_s = array("d")
        self.took_s = array("d")
        self.gap_s = array("d")  # of each answer, its mean between tokens
        self.errors: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self.regions: Counter[str] = Counter()
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT_MAX)

    def add(self, answer: Answer, *, late_s: float, now_s: float) -> None:
        """One that has ended; ``late_s``: after it was due it was asked for."""
        self.input_tokens += answer.input_tokens
        self.output_tokens += answer.output_tokens
        if answer.outcome != "ok":
            self.failed += 1
            kind = f"{answer.outcome}: {answer.error}"
            if kind not in self.errors and len(self.errors) >= _ERRORS_TOLD_MAX:
                kind = "other"
            self.errors[kind] += 1
            self.reasons.setdefault(kind, answer.reason)
            return
        self.answered += 1
        self.took_s.append(late_s + answer.took_s)
        if answer.region:
            self.regions[answer.region] += 1
        if answer.ttft_s is not None:
            self.ttft_s.append(late_s + answer.ttft_s)
            self._recent.append((now_s, late_s + answer.ttft_s))
        if answer.gaps_s:
            self.gap_s.append(math.fsum(answer.gaps_s) / len(answer.gaps_s))

    def recent_ttft_s(self, now_s: float) -> float | None:
        """The middle of the first tokens of the last seconds."""
        return quantile([ttft for at, ttft in self._recent if now_s - at <= RECENT_S], 0.5)


@dataclass(slots=True, kw_only=True)
class Load:
    """One run. Owned by one event loop; read while it runs for a live line.

    sent, in_flight: requests that were asked for, and those under way
    behind_s:        how long the next one has been due, because ``in_flight_max`` are under way
    abandoned:       requests that were under way when it was stopped
    """

    course: Course | Recorded
    target: Target
    in_flight_max: int
    seed: int
    began_s: float = 0.0
    ended_s: float = 0.0
    sent: int = 0
    behind_s: float = 0.0
    abandoned: int = 0
    tally: Tally = field(default_factory=Tally)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def in_flight(self) -> int:
        return len(self._under_way)

    async def run(self, stop: asyncio.Event) -> None:
        """Until its time is over and the last answer has come, or until ``stop``: then what runs is let go."""
        self.began_s = time.monotonic()
        stopping = asyncio.create_task(stop.wait())
        async with self.target.client(self.in_flight_max) as client:
            for number, after_s in enumerate(self.course.arrivals(self.seed)):
                due_s = self.began_s + after_s
                if await _until(stop, due_s) or await self._fewer_than(self.in_flight_max, stopping):
                    break
                self.behind_s = time.monotonic() - due_s
                task = asyncio.create_task(self._one(client, number, due_s))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            else:
                await _until(stop, self.began_s + self.course.duration_s)
            await self._fewer_than(1, stopping)
            await self._let_go(stopping)
        self.ended_s = time.monotonic()

    async def _fewer_than(self, count: int, stopping: asyncio.Task[bool]) -> bool:
        """Wait until fewer are under way; whether the end came first."""
        while len(self._under_way) >= count and not stopping.done():
            await asyncio.wait({*self._under_way, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return stopping.done()

    async def _let_go(self, stopping: asyncio.Task[bool]) -> None:
        rest = list(self._under_way)
        self.abandoned = len(rest)
        for task in (stopping, *rest):
            task.cancel()
        await asyncio.gather(stopping, *rest, return_exceptions=True)

    async def _one(self, client: httpx.AsyncClient, number: int, due_s: float) -> None:
        self.sent += 1
        asked_s = time.monotonic()
        answer = await ask(client, self.target.url, self._target(number).body(number, self.seed))
        self.tally.add(answer, late_s=asked_s - due_s, now_s=time.monotonic())

    def _target(self, number: int) -> Target:
        """The request with this number asks for what was recorded, if it was."""
        if isinstance(self.course, Course):
            return self.target
        words, tokens = self.course.input_tokens[number], self.course.output_tokens[number]
        return replace(self.target, input_words=max(1, words), max_tokens=max(1, tokens))


async def _until(stop: asyncio.Event, at_s: float) -> bool:
    """Wait for a moment of the monotonic clock; whether ``stop`` came first."""
    wait_s = at_s - time.monotonic()
    if wait_s <= 0:
        await asyncio.sleep(0)  # those under way must get on, however far behind this is
        return stop.is_set()
    try:
        async with asyncio.timeout(wait_s):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def quantile(values: Sequence[float], share: float) -> float | None:
    """The least value that ``share`` of the values do not exceed (nearest rank). None of none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
