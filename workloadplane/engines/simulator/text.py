"""Tokens and text of the simulated model: a pure function of what was written so far.

The next word depends on the bytes of the whole text before it and on a seed, on nothing else. So a prompt
always gives the same answer, and a prompt with the beginning of that answer gives its rest: what a real model
does under greedy sampling, which is what resuming a broken stream relies on.

A token is up to six bytes: a space, a control character, or up to five bytes without blanks and the blank
before them. Its id holds its bytes, so ids need no dictionary, round-trip exactly and stay below 2**53.
"""

import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_TOKEN = re.compile(rb" ?[^\s]{1,5}|\s")

# Each is at most five bytes long, so each is one token. Some hold letters of two, three and four bytes.
_LEXICON = (
    "a and are as at be by can do each few find for from give go had has have he her here hold how if in "
    "into is it its just keep know last late less life like line long look made make many may more most "
    "much must near new next night no not now of off old on once one only open or other our out over own "
    "part past path plan rain read real rest ring river road rock room root rose said salt sand sea seed "
    "see she ship side sky slow small snow so soft some song soon star stay step still stone sun take "
    "talk tall tell than that the their them then there they thing this time to too town tree true turn "
    "two up upon us very wait walk wall warm was watch water wave way we well were west what wheat when "
    "where white who why wide wild wind wing with wood word work world year yes yet you end, so, then, "
    "yes. now: über für né año 東 京 海 🙂 🌊 – "
)
_WORDS = tuple(word.encode() for word in _LEXICON.split())


def split_tokens(text: bytes) -> list[bytes]:
    """The tokens of a text, in order; joined they give the text again."""
    return _TOKEN.findall(text)


def token_id(token: bytes) -> int:
    """The number of a token; a leading 1 keeps its length."""
    return int.from_bytes(b"\x01" + token)


def token_bytes(number: int) -> bytes:
    """The token of a number. Raises ValueError for one that names none."""
    raw = number.to_bytes(7) if 0 <= number < 1 << 56 else b""
    raw = raw.lstrip(b"\x00")
    if len(raw) < 2 or raw[0] != 1:
        raise ValueError(f"token id {number}: names no token; use ids that this engine gave")
    return raw[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What bounds an answer. ``seed`` 0 is greedy. ``mean_tokens``: how long answers are that end by themselves."""

    max_tokens: int
    min_tokens: int = 0
    mean_tokens: int = 64
    seed: int = 0
    ignore_eos: bool = False
    stop: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``tokens`` were computed; ``pieces`` is the text of each, shortened where a stop string cut it off."""

    tokens: tuple[bytes, ...]
    pieces: tuple[bytes, ...]
    finish_reason: str  # stop | length


def answer(prompt: bytes, sampling: Sampling) -> Answer:
    """All that the model says after ``prompt``: at least one token."""
    state = zlib.crc32(prompt)
    # Apart from the running CRC, in which a seed could cancel out against the text.
    seed_bits = _mixed(sampling.seed & 0xFFFFFFFF)
    ends_line = prompt.endswith(b"\n")
    tokens: list[bytes] = []
    written = b""
    for count in range(1, sampling.max_tokens + 1):
        draw = _mixed(state ^ seed_bits)
        word = _WORDS[draw % len(_WORDS)]
        token = word if ends_line else b" " + word
        ends_line = False
        state = zlib.crc32(token, state)
        tokens.append(token)
        if sampling.stop:
            written += token
            cut = _first_stop(written, sampling.stop, since=len(written) - len(token))
            if cut is not None:
                return Answer(tokens=tuple(tokens), pieces=_cut(tokens, cut), finish_reason="stop")
        ends = (draw >> 20) % sampling.mean_tokens == 0
        if ends and not sampling.ignore_eos and count >= sampling.min_tokens:
            return Answer(tokens=tuple(tokens), pieces=tuple(tokens), finish_reason="stop")
    return Answer(tokens=tuple(tokens), pieces=tuple(tokens), finish_reason="length")


def block_hashes(tokens: Sequence[bytes], *, block_tokens: int) -> tuple[int, ...]:
    """One number per full block; each covers all before it, as prefix caching needs."""
    hashes = []
    digest = b""
    bounds = range(0, len(tokens) + 1, block_tokens)
    for start, end in pairwise(bounds):
        block = b"\x00".join(tokens[start:end])
        digest = hashlib.blake2b(block, digest_size=8, key=digest).digest()
        hashes.append(int.from_bytes(digest))
    return tuple(hashes)


def embedding(tokens: Sequence[bytes], *, dimensions: int) -> list[float]:
    """A unit vector that depends on the tokens and their order alone."""
    raw = hashlib.shake_128(b"\x00".join(tokens)).digest(2 * dimensions)
    values = [int.from_bytes(raw[at : at + 2]) / 32767.5 - 1.0 for at in range(0, len(raw), 2)]
    norm = sum(value * value for value in values) ** 0.5 or 1.0
    return [value / norm for value in values]


def _mixed(state: int) -> int:
    """Spread a CRC over 32 bits: neighbouring states must not give neighbouring words."""
    state = (state ^ (state >> 16)) * 0x45D9F3B & 0xFFFFFFFF
    state = (state ^ (state >> 16)) * 0x45D9F3B & 0xFFFFFFFF
    return state ^ (state >> 16)


def _first_stop(written: bytes, stops: Sequence[bytes], *, since: int) -> int | None:
    """Where the first stop string begins that the bytes from ``since`` on have completed."""
    places = (written.find(stop, max(0, since - len(stop) + 1)) for stop in stops)
    return min((at for at in places if at >= 0), default=None)


def _cut(tokens: Sequence[bytes], length: int) -> tuple[bytes, ...]:
    pieces = []
    for token in tokens:
        pieces.append(token[: max(length, 0)])
        length -= len(token)
    return tuple(pieces)
