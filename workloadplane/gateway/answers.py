"""What an engine's answer says about tokens, or seconds of speech, in the words of the APIs that it may speak.

Small answers are decoded for their usage alone; of large ones (embeddings of many inputs) only the end is kept
and the usage object read out of it.
"""

import msgspec

_WHOLE_BYTES_MAX = 1024 * 1024
_TAIL_BYTES = 64 * 1024
#: More tokens, or seconds of speech, than any answer has. What says otherwise is a fault of the engine's.
_BELIEVED_MAX = 1_000_000_000


class TokenDetails(msgspec.Struct):
    """OpenAI's break-down of prompt tokens."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Usage in the words of chat, completions and embeddings, in those of responses and messages, and (``seconds``)
    of transcriptions.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: TokenDetails | None = None
    input_tokens_details: TokenDetails | None = None
    input_token_details: TokenDetails | None = None  # realtime
    cache_read_input_tokens: int | None = None
    seconds: float | None = None


class Answer(msgspec.Struct):
    """What is read of an answer's body or of one event: nothing but its usage."""

    usage: Usage | None = None
    choices: list[msgspec.Raw] | None = None
    response: "Answer | None" = None  # responses: the last event carries the whole answer
    message: "Answer | None" = None  # messages: the first event carries the input's tokens


_answers = msgspec.json.Decoder(Answer)


class TokenCounts:
    """Tokens of one request, and seconds of speech in it, as far as the engine told."""

    __slots__ = ("audio_input_s", "cached_tokens", "input_tokens", "output_tokens")

    def __init__(self, output_tokens: int | None = None) -> None:
        self.input_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.output_tokens = output_tokens
        self.audio_input_s: float | None = None

    def add(self, usage: Usage) -> None:
        """Take over what this usage tells, if that can be; later ones overwrite earlier ones."""
        # What is believed is charged to its tenant's limits and turn.
        given = usage.prompt_tokens if usage.prompt_tokens is not None else usage.input_tokens
        if given is not None and 0 <= given <= _BELIEVED_MAX:
            self.input_tokens = given
        made = usage.completion_tokens if usage.completion_tokens is not None else usage.output_tokens
        if made is not None and 0 <= made <= _BELIEVED_MAX:
            self.output_tokens = made
        details = usage.prompt_tokens_details or usage.input_tokens_details or usage.input_token_details
        cached = details.cached_tokens if details is not None else usage.cache_read_input_tokens
        if cached is not None and 0 <= cached <= _BELIEVED_MAX:
            self.cached_tokens = cached
        seconds = usage.seconds
        if seconds is not None and 0 <= seconds <= _BELIEVED_MAX:
            self.audio_input_s = seconds

    def add_answer(self, encoded: bytes) -> Answer | None:
        """Take over the usage in a JSON answer; ``None`` if it is not one that we can read."""
        try:
            answer = _answers.decode(encoded)
        except (msgspec.DecodeError, RecursionError):
            return None
        if answer.usage is not None:
            self.add(answer.usage)
        if answer.response is not None and answer.response.usage is not None:
            self.add(answer.response.usage)
        if answer.message is not None and answer.message.usage is not None:
            self.add(answer.message.usage)
        return answer


class AnswerScanner:
    """One answer that is no stream: what it cost, known at its end."""

    __slots__ = ("_bytes", "_pieces")

    def __init__(self, data: bytes = b"") -> None:
        self._pieces = [data]
        self._bytes = len(data)

    def feed(self, data: bytes) -> None:
        self._pieces.append(data)
        self._bytes += len(data)
        if self._bytes > _WHOLE_BYTES_MAX:
            self._pieces = [b"".join(self._pieces)[-_TAIL_BYTES:]]

    def is_whole(self) -> bool:
        """Whether the answer is complete JSON, as far as it is kept."""
        if self._bytes > _WHOLE_BYTES_MAX:
            return self._pieces[-1].rstrip().endswith(b"}")
        try:
            msgspec.json.decode(b"".join(self._pieces))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return False
        return True

    def counts(self) -> TokenCounts:
        """Tokens as far as the answer tells; to be asked once, at its end."""
        counts = TokenCounts()
        kept = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        if self._bytes <= _WHOLE_BYTES_MAX:
            counts.add_answer(kept)
        else:
            counts.add_answer(b'{"usage":' + _object_after(kept, b'"usage"') + b"}")
        return counts


def _object_after(tail: bytes, name: bytes) -> bytes:
    """The JSON object that follows the last ``name``; a usage object holds no braces in strings."""
    start = tail.find(b"{", tail.rfind(name))
    depth = 0
    for offset in range(max(start, 0), len(tail)):
        depth += {0x7B: 1, 0x7D: -1}.get(tail[offset], 0)
        if depth == 0:
            return tail[start : offset + 1]
    return b"{}"
