"""What a choice costs, from the bytes of a prompt to a replica, and what remembering prompts takes.

    python -m tests.benchmarks.bench_picker [--replicas 500] [--rounds 2000]

Alone, on one core, with nothing mocked: hashing, matching against the prefix index, filters and scores, telling
the index where the prompt went. Prompts are conversations that begin alike (a system prompt of 8 KB) and go on
differently; the replicas are in use to different degrees.
"""

import argparse
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from random import Random

from workloadplane.routing import Policy, ReplicaFacts, RequestFacts, RevisionShare, Snapshot, ToReplica, pick
from workloadplane.routing.blocks import chain, prompt_text
from workloadplane.routing.prefix import Fleet, PrefixIndex, Routed, step

GOAL_US = 150.0
GOAL_100KB_US = 1000.0
PROMPT_BYTES = 32_000  # 8k tokens
SEED = 7
SYSTEM = Random(0).randbytes(4096).hex()


def conversation(name: int, size: int) -> bytes:
    """Raw JSON of about ``size`` bytes; a longer one of the same name begins with the shorter one."""
    texts = Random(name)
    turns = max(1, (size - len(SYSTEM)) // 1060)
    roles = ["system", *(("user", "assistant")[turn % 2] for turn in range(turns))]
    contents = [SYSTEM, *(texts.randbytes(512).hex() for _ in range(turns))]
    pairs = zip(roles, contents, strict=True)
    return json.dumps([{"role": role, "content": content} for role, content in pairs]).encode()


def snapshot(names: tuple[str, ...], rng: Random) -> Snapshot:
    """All of one revision, ready, with some requests in flight."""
    return Snapshot(
        cluster_id="c",
        jurisdiction="eu",
        residency=frozenset({"eu"}),
        residency_ingress="forward",
        posture="active_active",
        revisions=(RevisionShare("r1", 100, ("c",)),),
        replicas=tuple(ReplicaFacts(name, "r1", True, 8.0, max_in_flight=64) for name in names),
        peers={},
        in_flight={name: rng.randrange(12) for name in names},
        unavailable=(),
        unready=(),
        lease_holds=True,
        burden={name: rng.random() for name in names[::7]},
        lately={name: 12_500.0 * rng.random() for name in names},
    )


def medians_us(act: Callable[[bytes], object], prompts: list[bytes], rounds: int) -> tuple[float, float]:
    """Median and 99th percentile of one call, in microseconds."""
    taken = []
    for number in range(rounds):
        prompt = prompts[number % len(prompts)]
        began = time.perf_counter()
        act(prompt)
        taken.append((time.perf_counter() - began) * 1e6)
    taken.sort()
    return statistics.median(taken), taken[int(len(taken) * 0.99)]


def row(what: str, figures: tuple[float, float], goal_us: float | None = None) -> str:
    met = "" if goal_us is None else f"{goal_us:.0f} ({'met' if figures[0] <= goal_us else 'missed'})"
    return f"| {what} | {figures[0]:.0f} | {figures[1]:.0f} | {met} |\n"


def memory() -> str:
    """Bytes a block takes: known of one replica, and of eight."""
    lines = []
    for copies in (1, 8):
        count = 40_000
        tracemalloc.start()
        index = PrefixIndex()
        step(index, Fleet(tuple(f"r{place}" for place in range(8)), (10**9,) * 8), 0.0)
        before = tracemalloc.get_traced_memory()[0]
        rng = Random(1)
        for _ in range(count // 50):
            hashes = [rng.getrandbits(64) for _ in range(50)]
            for place in range(copies):
                step(index, Routed(place, hashes), 0.0)
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        lines.append(f"{taken / count:.0f} bytes a block known of {copies} replica{'s' * (copies > 1)}")
    return "Index: " + ", ".join(lines) + ".\n"


def main() -> int:
    """1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--replicas", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=2000)
    given = parser.parse_args()
    rng, policy = Random(3), Policy()
    names = tuple(f"replica-{number:04d}" for number in range(given.replicas))
    index = PrefixIndex()
    step(index, Fleet(names), 0.0)
    for number in range(4 * given.replicas):
        step(
            index,
            Routed(
                number % given.replicas, chain(prompt_text(conversation(number, PROMPT_BYTES // 2)), SEED)
            ),
            0.0,
        )
    shot = snapshot(names, rng)
    prompts = [conversation(number, PROMPT_BYTES) for number in range(200)]

    def choose(prompt: bytes, session: str | None = None) -> ToReplica:
        text = prompt_text(prompt)
        hashes = chain(text, SEED)
        facts = RequestFacts(session, True, prompt_bytes=len(text), known=index.match(hashes))
        choice = pick(facts, shot, policy, rng)
        assert isinstance(choice, ToReplica)
        return choice

    def choose_and_tell(prompt: bytes) -> None:
        choice = choose(prompt)
        step(index, Routed(shot.places.place_of[choice.replica_id], chain(prompt_text(prompt), SEED)), 1.0)

    known = sum(choose(prompt).known_bytes > 0 for prompt in prompts)
    whole = medians_us(choose, prompts, given.rounds)
    small = snapshot(names[:8], rng)
    large = [
        b'[{"role":"user","content":"' + Random(n).randbytes(50_000).hex().encode() + b'"}]' for n in range(8)
    ]
    hashing = medians_us(lambda prompt: chain(prompt_text(prompt), SEED), large, given.rounds)
    one_kb = [conversation(number, 1000)[-1000:] for number in range(50)]

    def choose_of_few(prompt: bytes) -> None:
        known = index.match(chain(prompt, SEED))
        pick(RequestFacts(None, True, prompt_bytes=1000, known=known), small, policy, rng)

    few = medians_us(choose_of_few, one_kb, given.rounds)
    sys.stdout.write(
        f"{given.replicas} replicas, prompts of {PROMPT_BYTES // 1000} KB (8k tokens); {known} of {len(prompts)} "
        f"prompts went to a replica that knew a part. {index.blocks} blocks known.\n\n"
        "| step | median µs | p99 µs | goal |\n|---|---|---|---|\n"
        + row("hash, match and choose", whole, GOAL_US)
        + row("the same with a session", medians_us(lambda p: choose(p, "s-1"), prompts, given.rounds))
        + row("and tell the index", medians_us(choose_and_tell, prompts, given.rounds))
        + row("hash a prompt of 100 KB", hashing, GOAL_100KB_US)
        + row("8 replicas, 1 KB: hash, match and choose", few)
        + "\n"
        + memory()
    )
    return int(whole[0] > GOAL_US or hashing[0] > GOAL_100KB_US)


if __name__ == "__main__":
    sys.exit(main())
