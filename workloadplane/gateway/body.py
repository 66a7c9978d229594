"""A request's body: parsed once for the few members that decide its way, and otherwise left as it came.

Where a member must differ for the engine (usage asked for by the gateway, another served name), the bytes of
that member alone are replaced. A member is found by its quoted name: inside a JSON string the quotes would be
escaped, so a match is a real name or value; where more than one place matches, the body is put together anew
from its members, each as it came.
"""

import re

import msgspec

from workloadplane.gateway import errors
from workloadplane.gateway.errors import Failure

_ABSENT = msgspec.Raw()


class StreamOptions(msgspec.Struct):
    """OpenAI's ``stream_options``."""

    include_usage: bool | None = None


class InferenceBody(msgspec.Struct):
    """The members of an inference request that the gateway reads; the rest is the engine's business."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    priority: int | float | None = None
    max_tokens: int | float | None = None
    max_completion_tokens: int | float | None = None
    max_output_tokens: int | float | None = None
    return_token_ids: bool | None = None
    # The prompt, as it came: hashed, never decoded.
    tools: msgspec.Raw = _ABSENT
    system: msgspec.Raw = _ABSENT
    instructions: msgspec.Raw = _ABSENT
    messages: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT
    cache_salt: msgspec.Raw = _ABSENT

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def output_tokens_max(self) -> float | None:
        """The bound on the answer that the client set, in the word of whichever API."""
        bound = self.max_tokens
        if bound is None:
            bound = self.max_completion_tokens
        if bound is None:
            bound = self.max_output_tokens
        return bound if bound is None or bound > 0 else 0

    @property
    def session(self) -> str | None:
        """What the client says belongs together."""
        return self.prompt_cache_key or self.user

    def take_prompt(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Tools, what the model is told, what it is asked, and the salt, as they came; none is kept here."""
        tools, salt = self.tools, self.cache_salt
        told = self.system if self.system is not _ABSENT else self.instructions
        asked = self.messages
        if asked is _ABSENT:
            asked = self.prompt if self.prompt is not _ABSENT else self.input
        self.forget_prompt()
        # Nothing of a member that did not come, which costs a copy less.
        return (
            b"" if tools is _ABSENT else bytes(tools),
            b"" if told is _ABSENT else bytes(told),
            b"" if asked is _ABSENT else bytes(asked),
            b"" if salt is _ABSENT else bytes(salt),
        )

    def forget_prompt(self) -> None:
        """Let go of the bytes that the prompt's members are windows into."""
        self.tools = self.system = self.instructions = self.cache_salt = _ABSENT
        self.messages = self.prompt = self.input = _ABSENT


class ResponsesBody(InferenceBody):
    """Those of a request for a response besides."""

    previous_response_id: str | None = None
    store: bool | None = None
    background: bool | None = None


class MessagesMetadata(msgspec.Struct):
    """Anthropic's ``metadata``."""

    user_id: str | None = None


class MessagesBody(InferenceBody):
    """Those of a request for a message besides."""

    metadata: MessagesMetadata | None = None

    @property
    def session(self) -> str | None:
        """What Anthropic's clients call a user, else what others do."""
        return (self.metadata.user_id if self.metadata is not None else None) or super().session


_DECODERS = {kind: msgspec.json.Decoder(kind) for kind in (InferenceBody, ResponsesBody, MessagesBody)}
# Members as they came: a number that no float holds is the engine's business too.
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OPTIONS = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
_NULL = msgspec.Raw(b"null")
_ESCAPED_LETTER = re.compile(rb"\\u00[567]")
_PLACE = re.compile(r"(?: - at `\$\.|missing required field `)([^`]+)`")


def parse(body: bytes, kind: type[InferenceBody] = InferenceBody) -> InferenceBody | Failure:
    """What the gateway must know, or which part of the body is wrong."""
    try:
        parsed = _DECODERS[kind].decode(body)
        if not body.isascii():
            body.decode()  # members that are not read are not looked into, but every engine will
        return parsed
    except RecursionError:
        return errors.body_too_deep()
    except msgspec.ValidationError as error:
        where = _PLACE.search(str(error))
        param = where.group(1) if where else None
        return errors.bad_request(f"The body is not accepted: {error}; mend it.", param=param)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return errors.bad_request(f"The body is not valid JSON: {error}; send a JSON object.")


def with_usage_asked(body: bytes, parsed: InferenceBody) -> bytes:
    """The body with ``stream_options.include_usage`` set."""
    if parsed.stream_options is None and body.rfind(b'"stream_options"') < 0:
        return _with_last(body, b'"stream_options":{"include_usage":true}')
    options = _OPTIONS.decode(_MEMBERS.decode(body).get("stream_options", _NULL)) or {}
    return _with_member(body, "stream_options", {**options, "include_usage": True})


def with_token_ids_asked(body: bytes) -> bytes:
    """A body without ``return_token_ids``, with it set."""
    return _with_last(body, b'"return_token_ids":true')


def with_model(body: bytes, model: str) -> bytes:
    """The body with another ``model``."""
    return _with_member(body, "model", model)


def with_request_id(body: bytes, request_id: str) -> bytes:
    """The body with ``request_id``: what an engine shall call the response that it makes of it."""
    if body.rfind(b'"request_id"') < 0:
        return _with_last(body, b'"request_id":"%s"' % request_id.encode())
    return _with_member(body, "request_id", request_id)


def without_priority(body: bytes) -> bytes:
    """The body with ``priority`` 0, which is what engines take for none."""
    return _with_member(body, "priority", 0)


def _with_last(body: bytes, member: bytes) -> bytes:
    """A parsed object, not empty, with one more member after its others.

    The last of two members of one name counts, and a client may write that name with escapes that no search finds.
    """
    cut = body.rindex(b"}")
    return body[:cut] + b"," + member + body[cut:]


def _spells_otherwise(body: bytes) -> bool:
    """Whether a member's name may be written with escapes: then what was found may be another object's."""
    return b"\\u00" in body and _ESCAPED_LETTER.search(body) is not None


def _with_member(body: bytes, name: str, value: object) -> bytes:
    members = _MEMBERS.decode(body)
    old = members.get(name, _NULL)
    quoted = re.escape(msgspec.json.encode(name))
    found = list(re.finditer(quoted + rb"\s*:\s*" + re.escape(old), body))
    if len(found) == 1 and len(re.findall(quoted, body)) == 1 and not _spells_otherwise(body):
        end = found[0].end()
        return body[: end - len(bytes(old))] + msgspec.json.encode(value) + body[end:]
    return msgspec.json.encode({**members, name: value})
