"""``multipart/form-data`` read for the few fields that decide a request's way; files are passed over, never copied.

The parser is python-multipart's, fed with the body as it lies in memory; where a field must differ for the engine
its bytes alone are replaced.
"""

import logging
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from workloadplane.gateway import errors
from workloadplane.gateway.body import InferenceBody
from workloadplane.gateway.errors import Failure

# What is wrong with a form is its client's to hear, not the log's.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

_FIELD_BYTES_MAX = 1024
_PARTS_MAX = 64
_WANTED = frozenset({b"model", b"stream"})


@dataclass(frozen=True, slots=True)
class Form:
    """What the gateway must know of a form. ``model_at``: where the name of the model lies in the body."""

    body: InferenceBody
    model_at: slice


class _Reader:
    """The parser's callbacks: finds the wanted fields and where they lie."""

    def __init__(self) -> None:
        self.places: dict[bytes, slice] = {}
        self.problem = ""
        self.ended = False
        self._parts = 0
        self._header = b""
        self._value = b""
        self._name = b""
        self._place: slice | None = None

    def callbacks(self) -> dict[str, object]:
        """Under the names that the parser calls them by."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _PARTS_MAX:
            raise FormParserError(f"it has more than {_PARTS_MAX} parts")
        self._name = b""
        self._place = None

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            kind, options = parse_options_header(self._value)
            if kind == b"form-data" and b"filename" not in options:
                self._name = options.get(b"name", b"")
        self._header = self._value = b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name in _WANTED:
            first = self._place.start if self._place is not None else start
            self._place = slice(first, end)
            if end - first > _FIELD_BYTES_MAX:
                raise FormParserError(f"field {self._name.decode()} is longer than {_FIELD_BYTES_MAX} bytes")

    def _on_part_end(self) -> None:
        if self._name in _WANTED:
            if self._name in self.places:
                raise FormParserError(f"field {self._name.decode()} is repeated")
            self.places[self._name] = self._place or slice(0, 0)

    def _on_end(self) -> None:
        self.ended = True


def parse(body: bytes, content_type: bytes | None) -> Form | Failure:
    """The form's model and stream, or what is wrong with it."""
    kind, options = parse_options_header(content_type or b"")
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        return errors.bad_request(
            "The body is not a form; send multipart/form-data with the fields file and model.",
            param="model",
        )
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        return errors.bad_request(f"The form is not valid: {error}; mend it.")
    if not reader.ended:
        return errors.bad_request("The form is cut short: its last boundary is missing; send it whole.")
    place = reader.places.get(b"model")
    if place is None or not _is_a_value(body, place, boundary):
        return errors.bad_request("The form has no field model; name one of GET /v1/models.", param="model")
    try:
        model = body[place].decode()
    except UnicodeDecodeError:
        return errors.bad_request("The field model is not UTF-8; name one of GET /v1/models.", param="model")
    stream = body[reader.places.get(b"stream", slice(0, 0))].lower() in {b"true", b"1", b"on"}
    return Form(InferenceBody(model=model, stream=stream), place)


def _is_a_value(body: bytes, place: slice, boundary: bytes) -> bool:
    """Whether exactly a part's content lies there: an engine must read the same name as we do."""
    return body.endswith(b"\r\n\r\n", 0, place.start) and body.startswith(b"\r\n--" + boundary, place.stop)


def with_model(body: bytes, place: slice, model: str) -> bytes:
    """The body with another ``model``."""
    return b"".join((memoryview(body)[: place.start], model.encode(), memoryview(body)[place.stop :]))
