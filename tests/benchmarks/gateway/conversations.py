"""What is asked in the routing rows: a trace with the blocks of its prompts, or conversations of our own making.

A prompt is text of words that are one token each to the simulated engine, so its blocks are those of the trace.
Everything follows from seeds; nothing is random between two runs.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
TRACE_BLOCK_TOKENS = 512
#: One token here stands for so many of the trace's: lengths, caches and speeds shrink alike.
SCALE = 8
#: For the whole of the trace, which took 1,022 s when it was recorded. In 60 s more would come than eight replicas
#: can compute, and what is cached would be told by how long the queues are.
TRACE_WITHIN_S = 300.0


@dataclass
class Turn:
    """One request. ``after_s``: since the begin of the run, or since the answer before it in its conversation."""

    after_s: float
    text: str
    output_tokens: int


@dataclass
class Conversation:
    """Turns in order; each carries all that was said before it. ``system`` may be shared with others."""

    begins_s: float
    system: str
    turns: list[Turn]


def words(seed: str, count: int) -> str:
    """``count`` tokens that follow from ``seed``, each a blank and five letters."""
    rng = Random(seed)
    return "".join(" " + "".join(rng.choices(_LETTERS, k=5)) for _ in range(count))


@lru_cache(maxsize=100_000)
def _block(number: int) -> str:
    return words(f"block {number}", TRACE_BLOCK_TOKENS // SCALE)


def of_trace(path: Path, *, within_s: float, limit: int | None, first: int = 0) -> list[Conversation]:
    """A trace in Mooncake's format (timestamp in ms, input_length, output_length, hash_ids), sped up to ``within_s``.

    With ``limit`` only so many of its requests from the ``first`` on, at the same rate.

    Raises OSError or ValueError for no such file.
    """
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    speed = rows[-1]["timestamp"] / 1000 / within_s
    chosen = rows[first:][:limit]
    return [
        Conversation(
            (row["timestamp"] - chosen[0]["timestamp"]) / 1000 / speed,
            "",
            [Turn(0.0, _prompt(row), max(1, row["output_length"] // SCALE))],
        )
        for row in chosen
    ]


def _prompt(row: dict[str, object]) -> str:
    numbers, length = row["hash_ids"], row["input_length"]
    assert isinstance(numbers, list) and isinstance(length, int)
    text = "".join(_block(number) for number in numbers)
    return text[: max(1, length // SCALE) * 6]


def multi_turn(*, within_s: float, conversations: int, seed: int = 1) -> list[Conversation]:
    """People who come and go, in groups that share a long system prompt, and who go on after each answer."""
    rng = Random(seed)
    systems = [words(f"system {number}", rng.randrange(200, 1200)) for number in range(12)]
    made = []
    for number in range(conversations):
        turns = [
            Turn(rng.expovariate(1.0), words(f"{seed} {number} {turn}", rng.randrange(20, 400)), 24)
            for turn in range(rng.randrange(2, 9))
        ]
        turns[0].after_s = 0.0
        # Some groups are far larger than others.
        system = systems[min(int(rng.paretovariate(0.8)) - 1, len(systems) - 1)]
        made.append(Conversation(rng.uniform(0, within_s * 0.8), system, turns))
    return sorted(made, key=lambda each: each.begins_s)


def bodies(conversation: Conversation) -> Iterator[tuple[Turn, bytes]]:
    """Each turn's body; send the answer's text back to go on: ``generator.send(text)`` makes the next one."""
    messages = [{"role": "system", "content": conversation.system}] if conversation.system else []
    for turn in conversation.turns:
        messages.append({"role": "user", "content": turn.text})
        answer = yield turn, encoded(messages, turn.output_tokens)
        messages.append({"role": "assistant", "content": answer or ""})


def encoded(messages: list[dict[str, str]], output_tokens: int) -> bytes:
    """A body that asks for exactly so many tokens, with the usage at the stream's end."""
    return json.dumps(
        {
            "model": "chat",
            "messages": messages,
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
