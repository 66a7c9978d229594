"""The routes that are relayed, by class. What is not on the list, an engine's admin routes above all, does not exist.

A path is compared byte for byte: no prefix, no trailing slash, no percent-encoding is another way to write it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from workloadplane.gateway import errors
from workloadplane.gateway.body import InferenceBody, MessagesBody, ResponsesBody
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.modalities import ONLY_AUDIO, ONLY_TEXT
from workloadplane.gateway.sse import AUDIO_STREAM, CHAT_STREAM, MESSAGES_STREAM, RESPONSES_STREAM, StreamForm
from workloadplane.gateway.websocket.handshake import engine_path

JSON = "json"
MULTIPART = "multipart"
NO_BODY = "none"


@dataclass(frozen=True, slots=True)
class RouteClass:
    """A kind of request.

    usage_on_request: its streams tell usage only if asked (OpenAI's chat and completions)
    keeps_prompts:    engines keep its prompts in their KV cache
    counts_usage:     its answers' usage is new; that of a stored response was counted when it was made
    is_spoken:        its input is text to be spoken, counted by characters
    body:             ``json``, ``multipart`` or ``none``: where the model's name is
    members:          which members of a JSON body the gateway reads
    begins_early:     a held client of its streams may get the answer's head before anybody answers
    stream:           what its events look like
    prompt:           the member that holds the prompt
    modalities:       what its requests hold where their prompt is not looked into; empty = not known
    """

    name: str
    usage_on_request: bool = False
    keeps_prompts: bool = False
    counts_usage: bool = True
    is_spoken: bool = False
    body: str = JSON
    members: type[InferenceBody] = InferenceBody
    begins_early: bool = False
    stream: StreamForm = CHAT_STREAM
    prompt: str = "input"
    modalities: frozenset[str] = frozenset()


CHAT = RouteClass("chat", usage_on_request=True, keeps_prompts=True, begins_early=True, prompt="messages")
COMPLETIONS = RouteClass(
    "completions", usage_on_request=True, keeps_prompts=True, begins_early=True, prompt="prompt"
)
EMBEDDINGS = RouteClass("embeddings")
RESPONSES = RouteClass(
    "responses", keeps_prompts=True, begins_early=True, members=ResponsesBody, stream=RESPONSES_STREAM
)
STORED_RESPONSES = RouteClass("stored_responses", counts_usage=False, body=NO_BODY, stream=RESPONSES_STREAM)
MESSAGES = RouteClass(
    "messages",
    keeps_prompts=True,
    begins_early=True,
    members=MessagesBody,
    stream=MESSAGES_STREAM,
    prompt="messages",
)
COUNT_TOKENS = RouteClass("count_tokens", counts_usage=False)
SCORE = RouteClass("score")
RERANK = RouteClass("rerank")
POOLING = RouteClass("pooling")
TRANSCRIPTION = RouteClass(
    "transcription",
    body=MULTIPART,
    begins_early=True,
    stream=AUDIO_STREAM,
    prompt="file",
    modalities=ONLY_AUDIO,
)
SPEECH = RouteClass("speech", is_spoken=True, stream=AUDIO_STREAM, modalities=ONLY_TEXT)
TOKENIZE = RouteClass("tokenize", counts_usage=False)
REALTIME = RouteClass("realtime", counts_usage=False, body=NO_BODY)

#: Path -> class of what is asked by POST.
ROUTES: Mapping[bytes, RouteClass] = {
    b"/v1/chat/completions": CHAT,
    b"/v1/completions": COMPLETIONS,
    b"/v1/embeddings": EMBEDDINGS,
    b"/v1/responses": RESPONSES,
    b"/v1/messages": MESSAGES,
    b"/v1/messages/count_tokens": COUNT_TOKENS,
    b"/v1/score": SCORE,
    b"/score": SCORE,
    b"/v1/rerank": RERANK,
    b"/v2/rerank": RERANK,
    b"/rerank": RERANK,
    b"/pooling": POOLING,
    b"/classify": POOLING,
    b"/v1/audio/transcriptions": TRANSCRIPTION,
    b"/v1/audio/translations": TRANSCRIPTION,
    b"/v1/audio/speech": SPEECH,
    b"/tokenize": TOKENIZE,
    b"/detokenize": TOKENIZE,
}
_STORED = re.compile(rb"/v1/responses/(resp_[A-Za-z0-9_-]{1,128})(/cancel)?")


@dataclass(frozen=True, slots=True)
class Found:
    """A route. ``response_id``: the stored response that it is about."""

    route_class: RouteClass
    response_id: str | None = None


_FOUND = {path: Found(route_class) for path, route_class in ROUTES.items()}


def find(method: bytes, path: bytes) -> Found | Failure:
    """The route of a request, or that there is none for this path or method."""
    found = _FOUND.get(path)
    if found is not None:
        return found if method == b"POST" else _wrong(method, "POST")
    stored = _STORED.fullmatch(path)
    if stored is None and engine_path(path) is not None:
        return errors.upgrade_required() if method == b"GET" else _wrong(method, "GET")
    if stored is None:
        return errors.unknown_route(method.decode("latin-1"), path.decode("latin-1"))
    allowed = (b"POST",) if stored[2] else (b"GET", b"DELETE")
    if method not in allowed:
        return _wrong(method, " or ".join(name.decode() for name in allowed))
    return Found(STORED_RESPONSES, stored[1].decode())


def class_name(path: bytes) -> str:
    """For a counter's label; bounded whatever the path."""
    found = _FOUND.get(path)
    if found is None and engine_path(path) is not None:
        return REALTIME.name
    return found.route_class.name if found else "none"


def _wrong(method: bytes, allowed: str) -> Failure:
    return errors.method_not_allowed(method.decode("latin-1"), allowed)
