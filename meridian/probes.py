"""Clients that ask a deployment at a steady rate, as its users do, and note what they see.

Every other request streams. What fails before an answer has begun is asked for again twice, as the usual clients do;
what breaks off after it has begun is not, for nobody can.
"""

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from meridian.asking import ask

TRIES = 3
_AGAIN_AFTER_S = (0.25, 0.75)
_TIMEOUT = httpx.Timeout(10.0, connect=5.0, read=30.0)
_WORDS = ("tell me of the sea", "what does a lighthouse see", "name a bird", "how long is a mile")


@dataclass
class Seen:
    """One request as its client saw it. ``at_s``: when it began; ``region``: that served it, empty if none did."""

    at_s: float
    ttft_s: float | None = None
    outcome: str = "failed"
    region: str = ""
    reason: str = ""

    def sample(self) -> dict[str, Any]:
        """As the API takes it."""
        return {"at_s": self.at_s, "ttft_s": self.ttft_s, "outcome": self.outcome, "region": self.region}


@dataclass
class Probes:
    """Asks through ``urls`` in turn, ``per_s`` times a second, from a thread of its own, until the block ends.

    began_s: on the monotonic clock; ``at_s`` counts from it
    """

    urls: Sequence[str]
    api_key: str
    deployment: str
    per_s: float
    began_s: float
    seen: list[Seen] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _taken: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(60)

    def take(self) -> list[Seen]:
        """Those that have ended since the last call."""
        with self._lock:
            found, self._taken = self.seen[self._taken :], len(self.seen)
        return found

    async def _run(self) -> None:
        headers = {"authorization": f"Bearer {self.api_key}"}
        limits = httpx.Limits(max_keepalive_connections=16)
        client = httpx.AsyncClient(headers=headers, timeout=_TIMEOUT, limits=limits)
        async with client, asyncio.TaskGroup() as group:
            due_s = time.monotonic()
            for number in itertools.count():
                if self._over.is_set():
                    break
                group.create_task(self._ask(client, number))
                due_s += 1 / self.per_s
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def _ask(self, client: httpx.AsyncClient, number: int) -> None:
        seen = Seen(at_s=time.monotonic() - self.began_s)
        body = {
            "model": self.deployment,
            "messages": [{"role": "user", "content": _WORDS[number % len(_WORDS)]}],
            "max_tokens": 8,
            "stream": number % 2 == 0,
        }
        for attempt in range(TRIES):
            tried_s = time.monotonic() - self.began_s
            answer = await ask(client, self.urls[number % len(self.urls)], body)
            seen.region, seen.reason = answer.region, answer.reason
            if answer.ttft_s is not None:
                seen.ttft_s = tried_s - seen.at_s + answer.ttft_s
            if answer.outcome == "ok":
                seen.outcome = "again" if attempt else "ok"
            elif answer.outcome == "broken":
                seen.outcome = "broken"
            elif attempt + 1 < TRIES:
                await asyncio.sleep(_AGAIN_AFTER_S[attempt])
                continue
            break
        with self._lock:
            self.seen.append(seen)


@dataclass
class Watch:
    """When gateways elsewhere eject regions, and when they take them back, by what they tell of one another."""

    urls: Sequence[str]
    regions: frozenset[str]
    began_s: float
    ejected_at_s: float | None = None
    states: dict[str, str] = field(default_factory=dict)
    _client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=1.0))

    def look(self) -> None:
        """Ask each of them once; who does not answer says nothing."""
        for url in self.urls:
            with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
                told = self._client.get(f"{url}/.well-known/meridian/regions").json()
                found = {
                    one["region"]: one["state"] for one in told["regions"] if one["region"] in self.regions
                }
                self.states |= found
                if self.ejected_at_s is None and "ejected" in found.values():
                    self.ejected_at_s = time.monotonic() - self.began_s
                return

    @property
    def all_healthy(self) -> bool:
        return all(self.states.get(region) == "healthy" for region in self.regions)
