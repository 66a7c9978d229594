"""The bodies of OpenAI's routes, as far as a simulated engine reads them.

Unknown fields are ignored, as real engines do. What is asked for and cannot be given honestly (log
probabilities, echo) is refused. ``read_*`` turn a body into what is to be computed; they raise ``BadRequest``
with the field.
"""

import zlib
from typing import Any, TypeVar

import msgspec

from workloadplane.engines.simulator.settings import Settings
from workloadplane.engines.simulator.text import Sampling, split_tokens, token_bytes

MAX_CHOICES = 16


class BadRequest(Exception):
    """The client's fault. ``code`` and ``status`` are OpenAI's."""

    def __init__(
        self, message: str, *, param: str | None = None, status: int = 400, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.param, self.status, self.code = param, status, code


class Part(msgspec.Struct):
    """A part of a message; only text is understood."""

    type: str = "text"
    text: str = ""


class Message(msgspec.Struct):
    """One turn of a conversation."""

    role: str
    content: str | list[Part] | None = None


class StreamOptions(msgspec.Struct):
    """Whether the last chunk carries the usage."""

    include_usage: bool | None = None


class _Generation(msgspec.Struct, kw_only=True):
    model: str
    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False
    return_token_ids: bool = False


class ChatRequest(_Generation, kw_only=True):
    """``POST /v1/chat/completions``. ``continue_final_message`` goes on with a begun answer."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    logprobs: bool | None = False
    tools: Any = None
    tool_choice: Any = None
    response_format: Any = None


class CompletionRequest(_Generation, kw_only=True):
    """``POST /v1/completions``. Prompts may be given as token ids."""

    prompt: str | list[str | int | list[int]]
    max_tokens: int | None = 16  # OpenAI's; ``null`` = as many as fit
    logprobs: int | None = None
    echo: bool = False


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """``POST /v1/embeddings``."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: str = "float"
    dimensions: int | None = None


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """``POST /tokenize``: of a text, or of a conversation as the chat route would see it."""

    prompt: str | None = None
    messages: list[Message] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    model: str | None = None


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """``POST /detokenize``."""

    tokens: list[int]
    model: str | None = None


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """What a generating request comes to: prompts (each answered ``n`` times) and how."""

    prompts: tuple[bytes, ...]
    samplings: tuple[Sampling, ...]
    stream: bool
    include_usage: bool
    return_token_ids: bool
    adapter: str = ""  # another one is another model


Body = TypeVar("Body", bound=msgspec.Struct)


def decode(raw: bytes, kind: type[Body]) -> Body:
    """Parse a body. Raises BadRequest for broken or deeply nested JSON and for wrong types."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"body: {error}") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"body is not valid JSON: {error}") from error


def read_chat(request: ChatRequest, settings: Settings) -> Generation:
    """A conversation becomes one prompt."""
    if request.logprobs:
        raise BadRequest("logprobs: the simulated engine has none; leave it out", param="logprobs")
    if not request.messages:
        raise BadRequest("messages: must hold at least one message", param="messages")
    prompt = render_conversation(
        request.messages,
        add_generation_prompt=request.add_generation_prompt,
        continue_final_message=request.continue_final_message,
    )
    limit = request.max_completion_tokens if request.max_completion_tokens is not None else request.max_tokens
    return _generation(request, (prompt,), limit, settings)


def read_completion(request: CompletionRequest, settings: Settings) -> Generation:
    """One or several prompts, as text or token ids."""
    if request.logprobs is not None or request.echo:
        raise BadRequest("logprobs and echo: the simulated engine has none; leave them out", param="logprobs")
    return _generation(request, read_texts(request.prompt, param="prompt"), request.max_tokens, settings)


def read_texts(given: str | list[str | int | list[int]], *, param: str) -> tuple[bytes, ...]:
    """Texts as bytes, whether they came as text or as token ids."""
    if isinstance(given, str):
        return (given.encode(),)
    if not given:
        raise BadRequest(f"{param}: must not be empty", param=param)
    texts: list[bytes] = []
    ids: list[int] = []
    try:
        for item in given:
            if isinstance(item, int):
                ids.append(item)
            else:
                texts.append(item.encode() if isinstance(item, str) else _text_of_ids(item))
        if ids and texts:
            raise BadRequest(f"{param}: mixes texts and token ids; give one kind", param=param)
        return (_text_of_ids(ids),) if ids else tuple(texts)
    except ValueError as error:
        raise BadRequest(f"{param}: {error}", param=param) from error


def render_conversation(
    messages: list[Message], *, add_generation_prompt: bool, continue_final_message: bool
) -> bytes:
    """The chat template: a line with the role, then the text. An answer to go on with is left open at its end.

    Raises BadRequest where both switches are on, for then it is unclear where the answer begins.
    """
    if continue_final_message and add_generation_prompt:
        raise BadRequest(
            "continue_final_message: set add_generation_prompt to false with it",
            param="continue_final_message",
        )
    turns = [f"<|{message.role}|>\n{_text_of(message)}" for message in messages]
    text = "\n".join(turns)
    if add_generation_prompt:
        text += "\n<|assistant|>\n"
    elif not continue_final_message:
        text += "\n"
    return text.encode()


def _text_of_ids(ids: list[int]) -> bytes:
    return b"".join(token_bytes(number) for number in ids)


def _text_of(message: Message) -> str:
    if message.content is None:
        return ""
    if isinstance(message.content, str):
        return message.content
    return "".join(part.text for part in message.content)


def _generation(
    request: _Generation, prompts: tuple[bytes, ...], limit: int | None, settings: Settings
) -> Generation:
    choices = 1 if request.n is None else request.n
    if not 1 <= choices <= MAX_CHOICES:
        raise BadRequest(f"n: {choices} is not in 1 ... {MAX_CHOICES}", param="n")
    if limit is not None and limit < 1:
        raise BadRequest(f"max_tokens: {limit} is less than 1", param="max_tokens")
    room = min(settings.max_context_tokens, settings.model.kv_capacity_tokens)
    longest = max(len(split_tokens(prompt)) for prompt in prompts)
    free = room - max(longest, 1)
    if free < 1 or (limit is not None and limit > free):
        raise BadRequest(
            f"this model's maximum context length is {room} tokens, but {longest} were given in the prompt "
            f"and {limit or 1} asked for as answer; shorten the prompt or lower max_tokens",
            code="context_length_exceeded",
        )
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    adapter = request.model if request.model in settings.adapters else ""
    apart = zlib.crc32(adapter.encode())
    greedy = request.temperature == 0 or (request.temperature is None and request.seed is None)
    stops = tuple(item.encode() for item in stop if item)
    samplings = []
    for choice in range(choices):
        drawn = 0 if greedy else 1 + (request.seed or 0) * MAX_CHOICES + choice
        samplings.append(
            Sampling(
                max_tokens=limit or free,
                min_tokens=request.min_tokens,
                mean_tokens=settings.mean_output_tokens,
                seed=settings.seed * 0x9E3779B1 + drawn + apart,
                ignore_eos=request.ignore_eos,
                stop=stops,
            )
        )
    options = request.stream_options
    return Generation(
        prompts=prompts,
        samplings=tuple(samplings),
        stream=bool(request.stream),
        include_usage=options is not None and bool(options.include_usage),
        return_token_ids=request.return_token_ids,
        adapter=adapter,
    )
