"""What a stream has told its client so far, read from its events."""

from typing import Any

import msgspec

from workloadplane.gateway.resume.shape import Batch, Shape, learn

_NULL = b"null"


class _Delta(msgspec.Struct):
    content: str | None = None
    role: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    audio: Any = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Any = None
    token_ids: list[int] | None = None
    prompt_token_ids: msgspec.Raw = msgspec.Raw(_NULL)


class _Event(msgspec.Struct):
    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: Any = None
    prompt_token_ids: msgspec.Raw = msgspec.Raw(_NULL)


_events = msgspec.json.Decoder(_Event)


class Told:
    """Sums over the events of one answer.

    token_ids:  the numbers of its tokens, each with a comma behind it; of use only if ``has_ids``
    prompt_ids: the numbers of its prompt, joined by commas, where the engine told them
    shown:      of the tokens, how many are in the text that was sent: an engine keeps back those that end in the
                middle of a character; with several in one event, the last of them may be such (``is_sure`` tells)
    unfit:      what was sent that nobody can go on with, in words; ``None`` = nothing
    """

    __slots__ = (
        "_shape",
        "_text",
        "bare_events",
        "facts",
        "finish_reason",
        "has_role",
        "has_usage",
        "is_sure",
        "prompt_ids",
        "shown",
        "shown_ids_bytes",
        "token_events",
        "token_ids",
        "tokens",
        "unfit",
    )

    def __init__(self) -> None:
        self._text = bytearray()
        self._shape: Shape | None = None
        self.facts: dict[str, Any] | None = None
        self.has_role = False
        self.has_usage = False
        self.token_ids = bytearray()
        self.tokens = 0
        self.shown = 0
        self.shown_ids_bytes = 0
        self.is_sure = True
        self.token_events = 0
        self.bare_events = 0
        self.prompt_ids: bytes | None = None
        self.finish_reason: str | None = None
        self.unfit: str | None = None

    @property
    def text(self) -> str:
        return self._text.decode()

    @property
    def kept_bytes(self) -> int:
        """What it takes in memory."""
        return len(self._text) + len(self.token_ids) + len(self.prompt_ids or b"")

    @property
    def has_ids(self) -> bool:
        """Whether the number of every token is known."""
        return self.bare_events == 0 and self.prompt_ids is not None

    @property
    def has_begun(self) -> bool:
        """Whether any of the answer's text was sent."""
        return bool(self._text)

    @property
    def tokens_sent(self) -> int:
        """In the text that was sent: exact where numbers are known, else one for each event."""
        return self.shown if self.bare_events == 0 else self.token_events

    @property
    def prompt_tokens(self) -> int | None:
        """How many the prompt has, where the engine told their numbers."""
        return None if self.prompt_ids is None else self.prompt_ids.count(b",") + 1

    def forget_unshown(self) -> None:
        """Tokens of which no text was sent are made anew."""
        del self.token_ids[self.shown_ids_bytes :]
        self.tokens = self.shown

    def add(self, events: bytes) -> None:
        """Read whole events. Events that are not understood make the answer unfit to be continued."""
        if b"\r" in events:
            events = events.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._shape is not None:
            events = self._add_alike(self._shape, events)
            if not events:
                return
        learned = self._shape
        lines = events.split(b"\n")
        for number, line in enumerate(lines):
            if line.startswith(b"data:") and not line.startswith((b"data: [DONE]", b"data:[DONE]")):
                try:
                    event = _events.decode(line[5:])
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    self.unfit = "an event that is not understood"
                    continue
                self._add_event(event)
                if learned is None and _is_plain(event):
                    learned = self._shape = learn(line, _text_of(event), _proves)
                    rest = b"\n".join(lines[number + 2 :])
                    left = self._add_alike(learned, rest) if learned is not None else rest
                    if len(left) < len(rest):
                        self.add(left)
                        return

    def _add_alike(self, shape: Shape, events: bytes) -> bytes:
        """Read at once those that are of this shape, as ``_add_choice`` would one by one; returns the others."""
        batch = shape.read(events)
        if batch is None:
            return events
        self._text += b"".join(batch.texts)
        if batch.ids is None:
            told = len(batch.texts) - batch.texts.count(b"")
            self.bare_events += told
            self.token_events += told
            if told:
                self.shown, self.shown_ids_bytes, self.is_sure = self.tokens, len(self.token_ids), True
        else:
            self._add_ids(batch, batch.ids)
        return batch.rest

    def _add_ids(self, batch: Batch, ids: list[bytes]) -> None:
        for text, numbers in zip(batch.texts, ids, strict=True):
            tokens = numbers.count(b",") + 1
            self.token_ids += numbers
            self.token_ids += b","
            self.tokens += tokens
            if text:
                self.shown, self.shown_ids_bytes, self.is_sure = self.tokens, len(self.token_ids), tokens < 2
        self.token_events += len(ids)

    def _add_event(self, event: _Event) -> None:
        if self.facts is None:
            self.facts = {
                "id": event.id,
                "object": event.object,
                "created": event.created,
                "model": event.model,
            }
        if self.prompt_ids is None:
            self._note_prompt(event.prompt_token_ids)
        if event.usage is not None and event.choices == []:
            self.has_usage = True
        for choice in event.choices or ():
            if choice.index != 0:
                self.unfit = "several choices"
                continue
            if self.prompt_ids is None:
                self._note_prompt(choice.prompt_token_ids)
            if choice.logprobs is not None:
                self.unfit = "log probabilities"
            self._add_choice(choice)

    def _add_choice(self, choice: _Choice) -> None:
        text = choice.text
        delta = choice.delta
        if delta is not None:
            self.has_role = self.has_role or delta.role is not None
            text = delta.content
            self._note_unfit(delta)
        if text:
            self._text += text.encode()
        ids = choice.token_ids
        if ids is not None:
            for number in ids:
                self.token_ids += b"%d," % number
            self.tokens += len(ids)
            self.token_events += bool(ids)
        elif text:
            self.bare_events += 1
            self.token_events += 1
        if text:
            self.shown = self.tokens
            self.shown_ids_bytes = len(self.token_ids)
            self.is_sure = len(choice.token_ids or ()) < 2
        if choice.finish_reason is not None:
            self.finish_reason = choice.finish_reason

    def _note_unfit(self, delta: _Delta) -> None:
        if delta.tool_calls or delta.function_call is not None:
            self.unfit = "a tool call"
        elif delta.reasoning or delta.reasoning_content:
            self.unfit = "reasoning apart from the answer"
        elif delta.refusal or delta.audio is not None:
            self.unfit = "something other than text"

    def _note_prompt(self, ids: msgspec.Raw) -> None:
        raw = bytes(ids)
        if raw.startswith(b"[") and len(raw) > 2:
            self.prompt_ids = raw[1:-1].replace(b" ", b"")


def _is_plain(event: _Event) -> bool:
    """Whether it tells text, and numbers of tokens at most besides."""
    if event.choices is None or len(event.choices) != 1 or bytes(event.prompt_token_ids) != _NULL:
        return False
    choice = event.choices[0]
    delta = choice.delta
    if choice.index or choice.logprobs is not None or choice.finish_reason is not None:
        return False
    if bytes(choice.prompt_token_ids) != _NULL or choice.token_ids == [] or not _text_of(event):
        return False
    if delta is None:
        return True
    return choice.text is None and delta == _Delta(content=delta.content, role=delta.role)


def _text_of(event: _Event) -> bytes:
    """Of an event with one choice."""
    choice = (event.choices or (_Choice(),))[0]
    return ((choice.delta.content if choice.delta is not None else choice.text) or "").encode()


def _proves(line: bytes, text: bytes, ids: bytes | None) -> bool:
    """As ``shape.learn`` asks."""
    try:
        event = _events.decode(line[5:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if not _is_plain(event) or _text_of(event) != text or event.choices is None:
        return False
    numbers = event.choices[0].token_ids
    return (None if numbers is None else b",".join(b"%d" % each for each in numbers)) == ids
