import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloadplane.engines.simulator.text import (
    Sampling,
    answer,
    block_hashes,
    split_tokens,
    token_bytes,
    token_id,
)


@given(st.text())
def test_tokens_joined_give_the_text_and_ids_give_the_tokens(text: str) -> None:
    """Nothing is lost in splitting, and ids hold their token and are exact in JavaScript too."""
    tokens = split_tokens(text.encode())
    assert b"".join(tokens) == text.encode()
    assert all(token_id(token) < 2**53 for token in tokens)
    assert [token_bytes(token_id(token)) for token in tokens] == tokens


@given(st.text(min_size=1), st.integers(1, 60), st.integers(0, 5), st.data())
def test_a_begun_answer_is_continued_to_the_same_end(
    prompt: str, max_tokens: int, seed: int, data: st.DataObject
) -> None:
    """Prompt and the beginning of its answer give exactly the rest, with as many tokens as were missing."""
    raw = prompt.encode()
    whole = answer(raw, Sampling(max_tokens=max_tokens, seed=seed))
    cut = data.draw(st.integers(0, len(whole.tokens) - 1))
    begun = b"".join(whole.tokens[:cut])
    rest = answer(raw + begun, Sampling(max_tokens=max_tokens - cut, seed=seed))
    assert rest.tokens == whole.tokens[cut:]
    assert rest.finish_reason == whole.finish_reason


def test_an_answer_counts_as_many_tokens_when_it_is_a_prompt() -> None:
    """The words of an answer are one token each for the tokenizer too."""
    whole = answer(b"Tell me a story", Sampling(max_tokens=500, ignore_eos=True))
    assert split_tokens(b"".join(whole.tokens)) == list(whole.tokens)
    assert whole.finish_reason == "length"
    assert len(set(whole.tokens)) > 100


def test_a_stop_string_ends_the_answer_before_it() -> None:
    """The text ends where the stop string begins, also inside a token."""
    whole = answer(b"Hi", Sampling(max_tokens=50, ignore_eos=True))
    text = b"".join(whole.tokens)
    stop = text[20:27]
    stopped = answer(b"Hi", Sampling(max_tokens=50, ignore_eos=True, stop=(b"never there", stop)))
    assert b"".join(stopped.pieces) == text[: text.find(stop)]
    assert stopped.finish_reason == "stop"


def test_seeds_differ_and_repeat() -> None:
    """Another seed gives another answer, the same seed the same."""
    answers = [
        answer(b"Hi", Sampling(max_tokens=20, seed=seed, ignore_eos=True)).tokens for seed in (1, 2, 1)
    ]
    assert answers[0] == answers[2] != answers[1]


def test_block_hashes_cover_all_before_them() -> None:
    """Equal blocks after different beginnings are different blocks; only full ones have a hash."""
    tokens = [b"a", b"b", b"c", b"d", b"e"]
    other = [b"x", b"b", b"c", b"d", b"e"]
    assert len(block_hashes(tokens, block_tokens=2)) == 2
    assert block_hashes(tokens, block_tokens=2)[0] == block_hashes(tokens[:3], block_tokens=2)[0]
    assert not set(block_hashes(tokens, block_tokens=2)) & set(block_hashes(other, block_tokens=2))


@pytest.mark.parametrize("number", [-1, 0, 1, 5, 2**56, 0x0261])
def test_a_number_that_is_no_token_is_refused(number: int) -> None:
    """Ids of another engine are not silently read as text."""
    with pytest.raises(ValueError, match="names no token"):
        token_bytes(number)
