"""A prompt as a chain of block hashes: what two prompts have in common from their beginning, without their text.

The text is the JSON that the client sent, in the order in which an engine's chat template would use it: tools,
system prompt, conversation. A client that sends its conversation again with more at its end sends the same
bytes again up to the closing bracket, so the raw bytes need no second parse; a client that writes them
otherwise has no prefix in common, and loses affinity, nothing else. What lies in a prompt as base64 (pictures)
counts by its digest: it is tokens by its pixels, not by its length.

Blocks grow with their distance from the beginning, so that a long prompt stays cheap and each step is a small
share of what lies before it. Each hash covers all before it, and ``seed`` keeps apart what shares no cache:
tenants' salts, LoRA adapters.
"""

from bisect import bisect_right

from xxhash import xxh3_64_intdigest, xxh3_128_digest

#: (up to this many bytes, in blocks of this many bytes); what lies beyond is not looked at.
_STEPS = ((16 * 1024, 256), (128 * 1024, 1024), (4 * 1024 * 1024, 4096))
_FOLDED_BYTES_MIN = 256
_BASE64 = b";base64,"
_APART = b"\x1e"


def _ends() -> tuple[int, ...]:
    ends: list[int] = []
    begin = 0
    for bound, size in _STEPS:
        ends += range(begin + size, bound + 1, size)
        begin = bound
    return tuple(ends)


#: Where each block ends, in bytes from the beginning.
BLOCK_ENDS = _ends()
_SPANS = tuple(zip((0, *BLOCK_ENDS), BLOCK_ENDS, strict=False))


def seed_of(secret: int, *parts: bytes) -> int:
    """Where a chain begins: other ``parts`` (project, adapter, salt) have no block in common."""
    seed = secret
    for part in parts:
        seed = xxh3_64_intdigest(part, seed)
    return seed


def prompt_text(*parts: bytes) -> bytes:
    """What is hashed: the raw JSON of tools, system prompt and conversation, those that there are, in this order.

    The last one goes without its closing bracket or quote: there the next turn goes on.
    """
    if len(parts) == 1:
        text = parts[0][:-1] if parts[0] != b"null" else b""
    else:
        text = _APART.join([part for part in parts if part and part != b"null"])[:-1]
    # One byte is found at the speed of memory; then from the end, for CPython searches backwards three times as fast.
    return _with_digests(text) if text.find(b";") >= 0 and text.rfind(_BASE64) >= 0 else text


def chain(text: bytes, seed: int) -> list[int]:
    """The hashes of all full blocks. What is left over is less than a block and counts for nothing."""
    spans = _SPANS[: bisect_right(BLOCK_ENDS, len(text))]
    return [seed := xxh3_64_intdigest(text[begin:end], seed) for begin, end in spans]


def _with_digests(text: bytes) -> bytes:
    """Long base64 replaced by its digest. What ends no string is left: half a picture has no meaning."""
    parts: list[bytes] = []
    kept = 0
    found = text.find(_BASE64)
    while found >= 0:
        begin = found + len(_BASE64)
        end = text.find(b'"', begin)
        if end < 0:
            break
        if end - begin > _FOLDED_BYTES_MIN:
            parts += (text[kept:begin], xxh3_128_digest(text[begin:end]))
            kept = end
        found = text.find(_BASE64, end)
    parts.append(text[kept:])
    return b"".join(parts)
