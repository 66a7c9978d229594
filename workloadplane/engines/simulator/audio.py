"""``/v1/audio/*``: what a recording says, as a pure function of its bytes, and speech that is silence.

Only the amounts are true to life: a recording's length decides how many tokens are computed and written.
"""

import hashlib
import time
import uuid
import wave
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field as FormField
from python_multipart.multipart import File, FormParser, parse_options_header

from workloadplane.engines.simulator.answers import Usage
from workloadplane.engines.simulator.requests import BadRequest
from workloadplane.engines.simulator.text import Answer, Sampling, answer

_TOKENS_PER_S = 3
_BYTES_PER_S = 32_000  # where a recording does not tell its length: 16 bit at 16 kHz
_SPOKEN_CHARS_PER_S = 15
_SPEECH_RATE_HZ = 8_000
_FORMATS = ("json", "text", "verbose_json")
_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Recording:
    """A form of ``/v1/audio/transcriptions`` or ``translations``."""

    model: str
    content: bytes
    response_format: str
    language: str
    stream: bool
    duration_s: float

    @property
    def prompt(self) -> list[bytes]:
        """As many tokens as an encoder would make of it: fifty a second."""
        return [b"%d" % (number % 10) for number in range(max(1, round(50 * self.duration_s)))]

    def transcript(self, *, max_tokens: int) -> Answer:
        """The same words for the same bytes."""
        tokens = min(max(1, round(_TOKENS_PER_S * self.duration_s)), max_tokens)
        heard = answer(hashlib.sha256(self.content).digest(), Sampling(max_tokens=tokens, ignore_eos=True))
        return Answer(tokens=heard.tokens, pieces=heard.pieces, finish_reason="stop")


class SpeechRequest(msgspec.Struct, kw_only=True):
    """``POST /v1/audio/speech``."""

    model: str
    input: str
    voice: Any = None
    response_format: str = "wav"


def read_form(body: bytes, content_type: bytes) -> Recording:
    """The form's fields. Raises BadRequest naming what is wrong."""
    fields: dict[bytes, bytes] = {}
    _, options = parse_options_header(content_type)

    def on_field(field: FormField) -> None:
        fields[field.field_name or b""] = field.value or b""

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        fields[file.field_name or b""] = file.file_object.read()

    try:
        parser = FormParser(
            "multipart/form-data",
            on_field,
            on_file,
            boundary=options.get(b"boundary", b""),
            config={"MAX_MEMORY_FILE_SIZE": len(body) + 1},
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise BadRequest(f"body is not a form: {error}") from error
    for name in (b"model", b"file"):
        if not fields.get(name):
            raise BadRequest(f"{name.decode()}: give this field", param=name.decode())
    form = fields.get(b"response_format", b"json").decode(errors="replace")
    if form not in _FORMATS:
        raise BadRequest(
            f"response_format: {form!r} is none of {', '.join(_FORMATS)}", param="response_format"
        )
    return Recording(
        model=fields[b"model"].decode(errors="replace"),
        content=fields[b"file"],
        response_format=form,
        language=fields.get(b"language", b"en").decode(errors="replace"),
        stream=fields.get(b"stream", b"").lower() == b"true",
        duration_s=_duration_s(fields[b"file"]),
    )


def _duration_s(content: bytes) -> float:
    try:
        with wave.open(BytesIO(content)) as recording:
            return float(min(recording.getnframes() / recording.getframerate(), 600.0))
    except (wave.Error, EOFError, ZeroDivisionError):
        return min(len(content) / _BYTES_PER_S, 600.0)


class TranscriptForm:
    """One transcript, as vLLM's chunks or whole."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._facts = {
            "id": f"trsc-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": recording.model,
        }

    def opening(self) -> bytes:
        """Nothing: the first token is the first event."""
        return b""

    def delta(self, text: str) -> bytes:
        """One token."""
        return self._chunk({"delta": {"content": text}, "finish_reason": None})

    def closing(self, text: str, finish_reason: str, usage: Usage) -> bytes:
        """The reason, and the end as chat has it."""
        return self._chunk({"delta": {"content": ""}, "finish_reason": finish_reason}) + b"data: [DONE]\n\n"

    def whole(self, text: str, finish_reason: str, usage: Usage) -> bytes:
        """The transcript in one piece."""
        recording = self._recording
        if recording.response_format == "text":
            return text.encode()
        if recording.response_format == "verbose_json":
            duration = str(recording.duration_s)
            facts = {"duration": duration, "language": recording.language, "text": text}
            return _encode({**facts, "segments": [], "words": None})
        seconds = max(1, round(recording.duration_s))
        return _encode({"text": text, "usage": {"type": "duration", "seconds": seconds}})

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        chunk = {**self._facts, "object": "transcription.chunk", "choices": [choice]}
        return b"data: " + _encode(chunk) + b"\n\n"


def speech(request: SpeechRequest) -> bytes:
    """Silence, as long as the text would take to say."""
    frames = round(len(request.input) / _SPOKEN_CHARS_PER_S * _SPEECH_RATE_HZ)
    made = BytesIO()
    with wave.open(made, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(1)
        recording.setframerate(_SPEECH_RATE_HZ)
        recording.writeframes(b"\x80" * min(frames, 4 << 20))
    return made.getvalue()
