"""Continuous batching as a model: which sequence gets its next token when.

An engine works in steps. Each step decodes one token for every running sequence that is past its prompt, and
spends the rest of its token budget on prompts (chunked prefill). A sequence is admitted when there is a seat
(``max_num_seqs``) and room in the KV cache; when a running one cannot grow, the youngest is put back and
computed anew later. Pure: time is an argument, and the same calls give the same answers.

A step's length is ``step_base_s + step_per_sequence_s * decoding + prefill_tokens / prefill_tokens_per_s``:
linear, as measured decode curves of one GPU are up to the point where they become compute-bound; past it this
errs on the fast side.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from workloadplane.engines.simulator.kvcache import CacheEvent, KvCache


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchModel:
    """Speed and room of a simulated engine."""

    prefill_tokens_per_s: float
    step_base_s: float
    step_per_sequence_s: float
    max_num_seqs: int
    max_num_batched_tokens: int
    kv_capacity_tokens: int
    block_tokens: int

    def step_s(self, *, prefill_tokens: int, decoding: int) -> float:
        """Seconds that one step takes."""
        prefill_s = prefill_tokens / self.prefill_tokens_per_s
        return self.step_base_s + self.step_per_sequence_s * decoding + prefill_s


class Work(NamedTuple):
    """A sequence to compute. ``block_hashes`` name the full blocks of prompt and answer, in order."""

    work_id: int
    prompt_tokens: int
    output_tokens: int
    block_hashes: Sequence[int]


class Emission(NamedTuple):
    """One token that came out at ``at_s``. ``position`` counts from 0 within its sequence."""

    work_id: int
    at_s: float
    position: int
    last: bool


@dataclass(slots=True)
class BatchCounters:
    """Sums since the start, in the units of vLLM's metrics of the same name."""

    prompt_tokens: int = 0
    prompt_tokens_cached: int = 0
    generation_tokens: int = 0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    preemptions: int = 0
    steps: int = 0


@dataclass(slots=True, eq=False)
class _Sequence:
    work: Work
    arrived_s: float
    admitted_s: float | None = None
    cached_tokens: int = 0
    generated: int = 0
    to_prefill: int = 0  # prompt tokens (and, after a preemption, answer tokens) still to compute
    planned: int = 0  # tokens that the current step computes
    shared: int = 0  # blocks held under work.block_hashes[:shared]
    private: int = 0  # blocks held besides

    @property
    def context_tokens(self) -> int:
        return self.work.prompt_tokens + self.generated


class ContinuousBatch:
    """The sequences of one engine and the step that is under way. Single owner; not thread-safe."""

    def __init__(self, model: BatchModel) -> None:
        self.model = model
        self.slow_factor = 1.0
        self.counters = BatchCounters()
        self._cache = KvCache(capacity_blocks=max(1, model.kv_capacity_tokens // model.block_tokens))
        self._waiting: deque[_Sequence] = deque()
        self._running: list[_Sequence] = []
        self._by_id: dict[int, _Sequence] = {}
        self._step_ends_s: float | None = None

    def tell_events(self) -> None:
        """From now on keep what comes into the prefix cache and goes from it, for ``take_events``."""
        self._cache.events = []

    def take_events(self) -> list[CacheEvent]:
        """What has come and gone since the last call."""
        events, self._cache.events = self._cache.events or [], []
        return events

    @property
    def next_at_s(self) -> float | None:
        """When the step under way ends; ``None`` when there is nothing to do."""
        return self._step_ends_s

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences without a seat."""
        return len(self._waiting)

    @property
    def kv_cache_usage(self) -> float:
        """Share of KV blocks in use, in [0, 1]."""
        return self._cache.usage

    def cached_tokens(self, work_id: int) -> int:
        """Prompt tokens that the prefix cache spared this sequence when it was first admitted."""
        return self._by_id[work_id].cached_tokens

    def matching_blocks(self, hashes: Sequence[int]) -> int:
        """How many blocks from the beginning of ``hashes`` its cache holds now."""
        return self._cache.matching_blocks(hashes)

    def queued_s(self, work_id: int) -> float:
        """How long this sequence waited for its first seat; 0 while it still waits."""
        sequence = self._by_id[work_id]
        return 0.0 if sequence.admitted_s is None else sequence.admitted_s - sequence.arrived_s

    def submit(self, work: Work, *, now_s: float) -> None:
        """Queue a sequence. Raises ValueError for one that could never fit or that has nothing to compute."""
        if work.prompt_tokens < 1 or work.output_tokens < 1:
            raise ValueError(f"work {work.work_id}: prompt_tokens and output_tokens must be at least 1")
        room = self._cache.capacity_blocks * self.model.block_tokens
        if work.prompt_tokens + work.output_tokens > room:
            raise ValueError(
                f"work {work.work_id}: {work.prompt_tokens} + {work.output_tokens} tokens exceed {room}"
            )
        if work.work_id in self._by_id:
            raise ValueError(f"work {work.work_id}: already submitted; use a fresh id")
        sequence = _Sequence(work=work, arrived_s=now_s)
        self._by_id[work.work_id] = sequence
        self._waiting.append(sequence)
        if self._step_ends_s is None:
            self._begin_step(now_s)

    def abort(self, work_id: int) -> bool:
        """Forget a sequence; its seat and blocks are free for the next step. False if it is not here any more."""
        sequence = self._by_id.pop(work_id, None)
        if sequence is None:
            return False
        if sequence in self._running:
            self._running.remove(sequence)
            self._give_back(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        else:
            return False
        return True

    def advance(self, now_s: float) -> list[Emission]:
        """Finish every step that ends by ``now_s`` and begin the next; give the tokens that came out, in order.

        A last token's sequence stays known to ``cached_tokens`` and ``queued_s`` until ``forget``.
        """
        emitted: list[Emission] = []
        while self._step_ends_s is not None and self._step_ends_s <= now_s:
            ended_s = self._step_ends_s
            self._finish_step(ended_s, emitted)
            self._begin_step(ended_s)
        return emitted

    def forget(self, work_id: int) -> None:
        """Drop the record of a finished sequence."""
        self._by_id.pop(work_id, None)

    def _begin_step(self, at_s: float) -> None:
        self._grow_or_preempt()
        self._admit(at_s)
        if not self._running:
            self._step_ends_s = None
            return
        decoding = sum(1 for sequence in self._running if not sequence.to_prefill)
        budget = max(self.model.max_num_batched_tokens - decoding, 1)
        prefill_tokens = 0
        for sequence in self._running:
            sequence.planned = min(sequence.to_prefill, budget - prefill_tokens)
            prefill_tokens += sequence.planned
        duration_s = self.model.step_s(prefill_tokens=prefill_tokens, decoding=decoding)
        self._step_ends_s = at_s + duration_s * self.slow_factor

    def _grow_or_preempt(self) -> None:
        """Every decoding sequence needs room for one more token; the youngest makes way for the older."""
        index = 0
        while index < len(self._running):
            sequence = self._running[index]
            held = (sequence.shared + sequence.private) * self.model.block_tokens
            if sequence.to_prefill or sequence.context_tokens < held:
                index += 1
            elif self._cache.can_take((), 1):
                self._cache.take((), 1)
                sequence.private += 1
                index += 1
            else:
                youngest = self._running.pop()
                self._give_back(youngest)
                self._waiting.appendleft(youngest)
                self.counters.preemptions += 1

    def _admit(self, at_s: float) -> None:
        block_tokens = self.model.block_tokens
        while self._waiting and len(self._running) < self.model.max_num_seqs:
            sequence = self._waiting[0]
            context = sequence.context_tokens
            # The last token is always computed, for the engine needs its logits.
            known = sequence.work.block_hashes[: (context - 1) // block_tokens]
            shared = known[: self._cache.matching_blocks(known)]
            private = -(-(context + 1) // block_tokens) - len(shared)
            if not self._cache.can_take(shared, private):
                return
            self._cache.take(shared, private)
            self._waiting.popleft()
            self._running.append(sequence)
            sequence.shared, sequence.private = len(shared), private
            cached = len(shared) * block_tokens
            sequence.to_prefill = context - cached
            if sequence.admitted_s is None:
                sequence.admitted_s = at_s
                sequence.cached_tokens = cached
                self.counters.prompt_tokens += sequence.work.prompt_tokens
                self.counters.prompt_tokens_cached += cached
                self.counters.prefix_cache_queries += sequence.work.prompt_tokens
                self.counters.prefix_cache_hits += cached

    def _finish_step(self, at_s: float, emitted: list[Emission]) -> None:
        self.counters.steps += 1
        staying = []
        for sequence in self._running:
            if sequence.to_prefill:
                sequence.to_prefill -= sequence.planned
                if sequence.to_prefill:
                    staying.append(sequence)
                    continue
            work = sequence.work
            last = sequence.generated + 1 == work.output_tokens
            emitted.append(Emission(work.work_id, at_s, sequence.generated, last))
            sequence.generated += 1
            self._publish_full_blocks(sequence)
            self.counters.generation_tokens += 1
            if last:
                self._give_back(sequence)
            else:
                staying.append(sequence)
        self._running = staying

    def _publish_full_blocks(self, sequence: _Sequence) -> None:
        hashes = sequence.work.block_hashes
        full = min(sequence.context_tokens // self.model.block_tokens, len(hashes))
        while sequence.shared < full and sequence.private:
            self._cache.publish(hashes[sequence.shared])
            sequence.shared += 1
            sequence.private -= 1

    def _give_back(self, sequence: _Sequence) -> None:
        self._cache.release(sequence.work.block_hashes[: sequence.shared], sequence.private)
        sequence.shared = sequence.private = sequence.to_prefill = sequence.planned = 0
