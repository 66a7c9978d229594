"""Prompts as chains: what two have in common from their beginning, and nothing else."""

import base64
import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from workloadplane.routing.blocks import BLOCK_ENDS, chain, prompt_text, seed_of


def blocks_within(size: int) -> int:
    return sum(end <= size for end in BLOCK_ENDS)


def messages(*texts: str) -> bytes:
    return json.dumps([{"role": "user", "content": text} for text in texts]).encode()


def common(one: list[int], other: list[int]) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def test_the_next_turn_begins_with_all_blocks_of_this_one() -> None:
    """A conversation sent again with more at its end has every block of the shorter one, bracket or not."""
    first = chain(prompt_text(messages("a" * 3000, "b" * 3000)), 1)
    second = chain(prompt_text(messages("a" * 3000, "b" * 3000, "c" * 900)), 1)
    assert len(first) == 6000 // 256
    assert second[: len(first)] == first
    assert len(second) > len(first)


def test_tools_come_before_the_system_prompt_and_both_before_the_conversation() -> None:
    """As the engine sees it: another tool changes every block from there on, a longer conversation none."""
    tools, system = b'[{"name":"t"}]' + b" " * 600, b'"' + b"s" * 600 + b'"'
    one = chain(prompt_text(tools, system, messages("x" * 2000)), 1)
    longer = chain(prompt_text(tools, system, messages("x" * 2000, "y" * 2000)), 1)
    other = chain(prompt_text(b'[{"name":"u"}]' + b" " * 600, system, messages("x" * 2000)), 1)
    assert longer[: len(one)] == one
    assert common(one, other) == 0


def test_tenants_and_adapters_share_no_block() -> None:
    """The same prompt under another salt, or another adapter, has nothing in common."""
    text = prompt_text(messages("x" * 5000))
    chains = [
        chain(text, seed)
        for seed in (
            seed_of(7, b"p1", b"", b""), seed_of(7, b"p1", b"lora", b""), seed_of(7, b"p2", b"", b""),
            seed_of(8, b"p1", b"", b""), seed_of(7, b"p1", b"", b"lora"),
        )
    ]  # fmt: skip
    assert len({each for hashes in chains for each in hashes}) == sum(map(len, chains))


def test_a_picture_counts_by_its_digest() -> None:
    """A megabyte of base64 is no thousand blocks; another picture is another chain; text after it still counts."""

    def with_picture(seed: int, text: str) -> bytes:
        data = base64.b64encode(bytes([seed]) * 900_000).decode()
        url = {"url": f"data:image/png;base64,{data}"}
        return json.dumps(
            [
                {"content": "see " * 200},
                {"content": [{"type": "image_url", "image_url": url}]},
                {"content": text},
            ]
        ).encode()

    one, longer = prompt_text(with_picture(1, "a" * 2000)), prompt_text(with_picture(1, "a" * 3000))
    other = prompt_text(with_picture(2, "a" * 2000))
    assert len(one) < 4000
    assert common(chain(one, 1), chain(longer, 1)) == len(chain(one, 1))
    assert common(chain(one, 1), chain(other, 1)) == blocks_within(900)


@given(
    st.binary(max_size=40_000), st.binary(max_size=2000), st.binary(max_size=2000), st.integers(0, 2**64 - 1)
)
def test_chains_agree_just_as_far_as_texts_do(shared: bytes, one: bytes, other: bytes, seed: int) -> None:
    """Blocks are equal up to the first byte that differs, and no further."""
    texts = shared + one, shared + other
    same = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    assert common(chain(texts[0], seed), chain(texts[1], seed)) == blocks_within(same)


def test_sizes_of_blocks() -> None:
    """Fine at the beginning, coarse far from it; what lies beyond the last is not looked at."""
    assert BLOCK_ENDS[:2] == (256, 512)
    assert all(end - begin <= max(256, begin // 16) for begin, end in itertools.pairwise(BLOCK_ENDS))
    assert len(chain(b"x" * 10_000_000, 1)) == len(BLOCK_ENDS)
    assert chain(prompt_text(b"", b"null", b"[]"), 1) == []
