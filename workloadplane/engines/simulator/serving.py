"""The clock of a simulated engine: submits work to the batch and hands tokens out when they are due.

One timer stands at the end of the step under way; with nothing to do there is none, so idle replicas cost
nothing. Steps follow one another on the model's own time, however late the timer fires: speed is right on
average, and a stall of the process shows as a burst, as it does with a real engine.
"""

import asyncio
import os
import signal
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from workloadplane.engines.simulator.answers import Usage
from workloadplane.engines.simulator.batching import ContinuousBatch, Emission, Work
from workloadplane.engines.simulator.faults import Faults
from workloadplane.engines.simulator.metrics import EngineMetrics
from workloadplane.engines.simulator.settings import Settings
from workloadplane.engines.simulator.text import Answer, block_hashes, split_tokens

if TYPE_CHECKING:
    from workloadplane.engines.simulator.kv_publishing import KvPublisher

# Between the last token before a crash and the crash: long enough for the socket to have taken its bytes.
_CRASH_DELAY_S = 0.005


class Sink(Protocol):
    """Where the tokens of one job go."""

    def token(self, index: int, piece: bytes, token: bytes, finish_reason: str | None) -> None:
        """A token of choice ``index``; the last one has a reason."""

    def done(self, usage: Usage) -> None:
        """All choices are finished."""

    def cut(self) -> None:
        """Close the connection here, as a fault."""


class Job:
    """One request: several choices, answered together."""

    __slots__ = (
        "arrived_s",
        "cached_tokens",
        "generated",
        "last_token_s",
        "prompt_tokens",
        "sink",
        "work_ids",
    )

    def __init__(self, sink: Sink, *, arrived_s: float, prompt_tokens: int) -> None:
        self.sink = sink
        self.arrived_s = arrived_s
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = 0
        self.generated = 0
        self.last_token_s: float | None = None
        self.work_ids: set[int] = set()


class Serving:
    """All that runs on this engine. Everything happens on the event loop."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.batch = ContinuousBatch(settings.model)
        self.metrics = EngineMetrics(settings.served_model)
        self.faults = Faults()
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._jobs: dict[int, tuple[Job, int, Answer]] = {}  # work id -> job, index of the choice, its answer
        self._next_work_id = 0
        self._frozen_since_s: float | None = None
        self._frozen_s = 0.0
        self._tokens_given = 0
        self._asked = 0
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._parked: list[Callable[[], None]] = []
        self._kv_publisher: KvPublisher | None = None
        self.set_faults(settings.faults)

    def publish_kv_events(self, publisher: "KvPublisher") -> None:
        """From now on tell what comes into the prefix cache and goes from it."""
        self._kv_publisher = publisher
        self.batch.tell_events()

    def set_faults(self, faults: Faults) -> None:
        """Put switches in force; their counts begin anew."""
        self.faults = faults
        self.batch.slow_factor = faults.slow_factor
        self._tokens_given = 0
        self._asked = 0
        if faults.hang:
            self._freeze()
        elif self._frozen_since_s is not None:
            self._frozen_s += self._loop.time() - self._frozen_since_s
            self._frozen_since_s = None
            parked, self._parked = self._parked, []
            for resume in parked:
                resume()
            self._set_timer()

    def park(self, resume: Callable[[], None]) -> bool:
        """While the engine hangs: keep ``resume`` for when it no longer does. False if it does not hang."""
        if self._frozen_since_s is None:
            return False
        self._parked.append(resume)
        return True

    def is_unavailable(self) -> bool:
        """Whether this inference request is one of the share that shall fail. Counts it."""
        share = self.faults.unavailable_share
        self._asked += 1
        return int(self._asked * share) > int((self._asked - 1) * share)

    def submit(
        self, prompts: list[list[bytes]], answers: list[Answer], sink: Sink, *, adapter: str = ""
    ) -> Job:
        """Begin a job: choice i answers ``prompts[i]`` with ``answers[i]``. The cache of an ``adapter`` is its own."""
        now_s = self._now()
        if adapter:
            self._use_adapter(adapter)
        salt = zlib.crc32(adapter.encode())
        unique = {id(prompt): len(prompt) for prompt in prompts}
        job = Job(sink, arrived_s=now_s, prompt_tokens=sum(unique.values()))
        for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            self._next_work_id += 1
            work_id = self._next_work_id
            named = block_hashes([*prompt, *answer.tokens], block_tokens=self.settings.model.block_tokens)
            hashes = tuple(each ^ salt for each in named) if salt else named
            work = Work(work_id, max(1, len(prompt)), len(answer.tokens), hashes)
            self._jobs[work_id] = (job, index, answer)
            job.work_ids.add(work_id)
            self.batch.submit(work, now_s=now_s)
        self.metrics.prompt_tokens.observe(job.prompt_tokens)
        self.idle.clear()
        self._set_timer()
        return job

    def abort(self, job: Job) -> None:
        """The client is gone."""
        if job.work_ids:
            self._finish(job, "abort")

    def abort_all(self) -> None:
        """Give up everything that runs."""
        for job in {id(entry[0]): entry[0] for entry in self._jobs.values()}.values():
            job.sink.cut()
            self.abort(job)

    def _finish(self, job: Job, reason: str) -> None:
        for work_id in job.work_ids:
            self.batch.abort(work_id)
            self.batch.forget(work_id)
            del self._jobs[work_id]
        job.work_ids.clear()
        self.metrics.finished[reason] += 1
        self.metrics.e2e_s.observe(self._now() - job.arrived_s)
        self.metrics.generation_tokens.observe(job.generated)
        if not self._jobs:
            self.idle.set()

    def _use_adapter(self, adapter: str) -> None:
        """One that is not in a slot is loaded first, in place of the longest unused; meanwhile nothing moves."""
        if adapter in self._loaded:
            self._loaded.move_to_end(adapter)
            return
        while len(self._loaded) >= self.settings.max_loras:
            self._loaded.popitem(last=False)
        self._loaded[adapter] = None
        self.metrics.adapter_loads += 1
        if self._frozen_since_s is None:
            self._frozen_s += self.settings.adapter_load_s
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._set_timer()

    def _now(self) -> float:
        until_s = self._loop.time() if self._frozen_since_s is None else self._frozen_since_s
        return until_s - self._frozen_s

    def _freeze(self) -> None:
        if self._frozen_since_s is None:
            self._frozen_since_s = self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        due_s = self.batch.next_at_s
        if due_s is None or self._timer is not None or self._frozen_since_s is not None:
            return
        self._timer = self._loop.call_at(due_s + self._frozen_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        for emission in self.batch.advance(self._now()):
            self._deliver(emission)
            if self._frozen_since_s is not None:
                return
        self._publish_kv_events()
        self._set_timer()

    def _publish_kv_events(self) -> None:
        if self._kv_publisher is not None:
            events = self.batch.take_events()
            if events:
                self._kv_publisher.publish(events)

    def _deliver(self, emission: Emission) -> None:
        entry = self._jobs.get(emission.work_id)
        if entry is None:
            return
        job, index, answer = entry
        if emission.position == 0:
            job.cached_tokens += self.batch.cached_tokens(emission.work_id)
            self.metrics.queue_s.observe(self.batch.queued_s(emission.work_id))
        if job.last_token_s is None:
            self.metrics.ttft_s.observe(emission.at_s - job.arrived_s)
        else:
            self.metrics.inter_token_latency_s.observe(emission.at_s - job.last_token_s)
        job.last_token_s = emission.at_s
        if self._is_withheld(job):
            return
        job.generated += 1
        reason = answer.finish_reason if emission.last else None
        job.sink.token(index, answer.pieces[emission.position], answer.tokens[emission.position], reason)
        self._tokens_given += 1
        if (
            self.faults.crash_after_tokens is not None
            and self._tokens_given >= self.faults.crash_after_tokens
        ):
            self._freeze()
            self._loop.call_later(_CRASH_DELAY_S, os.kill, os.getpid(), signal.SIGKILL)
            return
        if emission.last:
            self._end_choice(job, emission.work_id, answer.finish_reason)

    def _is_withheld(self, job: Job) -> bool:
        stuck, cut = self.faults.stuck_stream_after_tokens, self.faults.cut_stream_after_tokens
        if cut is not None and job.generated >= cut:
            job.sink.cut()
            self.abort(job)
            return True
        return stuck is not None and job.generated >= stuck

    def _end_choice(self, job: Job, work_id: int, reason: str) -> None:
        if len(job.work_ids) > 1:
            job.work_ids.discard(work_id)
            self.batch.forget(work_id)
            del self._jobs[work_id]
            return
        self._finish(job, "stop" if reason == "tool_calls" else reason)  # which is vLLM's word for both
        job.sink.done(
            Usage(
                prompt_tokens=job.prompt_tokens,
                completion_tokens=job.generated,
                cached_tokens=job.cached_tokens,
            )
        )


def prompt_tokens_of(prompts: tuple[bytes, ...], copies: int) -> list[list[bytes]]:
    """The tokens of each prompt, ``copies`` times in a row; copies share one list."""
    return [tokens for prompt in prompts for tokens in [split_tokens(prompt)] for _ in range(copies)]
