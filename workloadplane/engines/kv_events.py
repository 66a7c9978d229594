"""What an engine tells of its KV cache, in vLLM's form over ZeroMQ: [topic, sequence, MessagePack].

Of the events only amounts are kept: how many tokens' worth of blocks were stored, and how often everything was
lost. Which of our prompts a block belongs to cannot be told from outside: its hash is the engine's own, and its
tokens are numbers of a tokenizer that is not here.
"""

from dataclasses import dataclass

import msgspec


class _Stored(msgspec.Struct, tag="BlockStored"):
    block_hashes: list[msgspec.Raw]
    block_size: int
    medium: str | None = None


class _Removed(msgspec.Struct, tag="BlockRemoved"):
    pass


class _Cleared(msgspec.Struct, tag="AllBlocksCleared"):
    pass


class _Batch(msgspec.Struct, array_like=True):
    ts: float
    events: list[_Stored | _Removed | _Cleared]


_batches = msgspec.msgpack.Decoder(_Batch)


@dataclass(slots=True)
class KvCounts:
    """Sums since the first event that was heard. ``clears``: how often all was lost, or may have been."""

    stored_tokens: int = 0
    clears: int = 0
    heard: bool = False
    _next_sequence: int | None = None

    def take(self, sequence: int, payload: bytes) -> None:
        """Count one message. One that is not understood, or that is missing, may have been of anything."""
        expected, self._next_sequence = self._next_sequence, sequence + 1
        if expected is not None and sequence != expected:
            self.clears += 1  # lost messages, or an engine that began anew
        try:
            batch = _batches.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self.heard = True
        for event in batch.events:
            if isinstance(event, _Cleared):
                self.clears += 1
            elif isinstance(event, _Stored) and event.medium in (None, "GPU"):
                # A copy in slower memory counts for nothing: the engine computes from the first.
                self.stored_tokens += len(event.block_hashes) * event.block_size
