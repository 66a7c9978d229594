"""One replica at rising concurrencies: so many clients ask, each again as soon as it has its answer.

That is continuous batching as its users see it: requests join and leave the running batch one by one. What counts
begins when every client has had its first answer, and ends with the stretch: nothing of the start is in it.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from meridian.asking import Answer, ask
from meridian.errors import MeridianError
from meridian.load import Target, quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One point of the curve, for one replica; latencies in seconds.

    Between tokens: of each answer the mean, as several pieces may arrive here at once.
    """

    concurrency: int
    requests_per_s: float
    tokens_per_s: float
    ttft_s_p50: float
    ttft_s_p95: float
    inter_token_latency_s_p50: float
    inter_token_latency_s_p95: float

    def document(self) -> dict[str, Any]:
        """As the API takes it."""
        return asdict(self)


@dataclass(slots=True)
class _Stretch:
    """What clients have seen of one concurrency so far."""

    clients: int
    answers: list[tuple[float, Answer]] = field(default_factory=list)  # when it ended, and what it was
    begun: set[int] = field(default_factory=set)
    began_s: float = math.inf
    failed: Answer | None = None
    asked: int = 0

    def add(self, client: int, answer: Answer, now_s: float) -> None:
        if answer.outcome != "ok":
            self.failed = self.failed or answer
            return
        if len(self.begun) == self.clients:
            self.answers.append((now_s, answer))
        self.begun.add(client)
        if len(self.begun) == self.clients and self.began_s == math.inf:
            self.began_s = now_s


async def measure(
    target: Target, *, concurrency: int, replicas: int, stretch_s: float, seed: int
) -> Measured:
    """One point: ``concurrency`` clients for each of ``replicas``, and what one of those did.

    Raises MeridianError if a request fails: a curve with holes in it is none.
    """
    clients = concurrency * replicas
    stretch = _Stretch(clients)
    async with target.client(clients) as http:
        workers = [
            asyncio.create_task(_client(http, target, stretch, client, seed)) for client in range(clients)
        ]
        try:
            await _until_over(stretch, stretch_s)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    if stretch.failed is not None:
        raise MeridianError(f"a request failed at {concurrency} side by side: {stretch.failed.reason}")
    return _point(stretch, concurrency, replicas)


async def _until_over(stretch: _Stretch, stretch_s: float) -> None:
    """Until the time is over, and there are answers enough to tell of: one of each client."""
    while stretch.failed is None:
        now_s = time.monotonic()
        if now_s - stretch.began_s >= stretch_s and len(stretch.answers) >= stretch.clients:
            return
        await asyncio.sleep(0.02)


async def _client(http: httpx.AsyncClient, target: Target, stretch: _Stretch, client: int, seed: int) -> None:
    while True:
        stretch.asked += 1
        answer = await ask(http, target.url, target.body(stretch.asked, seed))
        stretch.add(client, answer, time.monotonic())
        if answer.outcome != "ok":
            return


def _point(stretch: _Stretch, concurrency: int, replicas: int) -> Measured:
    span_s = max(stretch.answers[-1][0] - stretch.began_s, 1e-9)
    answers = [answer for _, answer in stretch.answers]
    ttft = [answer.ttft_s for answer in answers if answer.ttft_s is not None]
    gaps = [_between_tokens_s(answer) for answer in answers if answer.gaps_s]
    if not ttft:
        raise MeridianError("no token was streamed: take an engine that streams, and more than no tokens")
    tokens = sum(answer.output_tokens or 1 + len(answer.gaps_s) for answer in answers)
    return Measured(
        concurrency=concurrency,
        requests_per_s=len(answers) / span_s / replicas,
        tokens_per_s=tokens / span_s / replicas,
        ttft_s_p50=_quantile(ttft, 0.5),
        ttft_s_p95=_quantile(ttft, 0.95),
        inter_token_latency_s_p50=_quantile(gaps, 0.5),
        inter_token_latency_s_p95=_quantile(gaps, 0.95),
    )


def _between_tokens_s(answer: Answer) -> float:
    return math.fsum(answer.gaps_s) / max(answer.output_tokens - 1, len(answer.gaps_s))


def _quantile(values: Sequence[float], share: float) -> float:
    return quantile(values, share) or 0.0


async def input_tokens(target: Target, seed: int) -> int:
    """Of a prompt as this target's are, by the engine's own count; also the first request, that warms it up.

    Raises MeridianError if it is not answered.
    """
    async with target.client(1) as http:
        answer = await ask(http, target.url, target.body(-1, seed))
    if answer.outcome != "ok":
        raise MeridianError(f"{target.url} does not answer {target.model}: {answer.reason or answer.error}")
    return answer.input_tokens or target.input_words
