"""What a simulated engine answers on which route."""

import hmac
import time
import uuid
from collections.abc import Callable
from functools import partial

import msgspec

from workloadplane.engines.simulator import messages_api, requests, structured
from workloadplane.engines.simulator.answers import (
    AnswerForm,
    ChatForm,
    CompletionForm,
    ToolCallForm,
    embeddings_body,
    error_body,
)
from workloadplane.engines.simulator.apis import Apis
from workloadplane.engines.simulator.connection import Exchange
from workloadplane.engines.simulator.faults import faults_from_json
from workloadplane.engines.simulator.realtime import RealtimeSession
from workloadplane.engines.simulator.requests import BadRequest
from workloadplane.engines.simulator.serving import Serving, prompt_tokens_of
from workloadplane.engines.simulator.sinks import ReadySink, StreamSink, WholeSink
from workloadplane.engines.simulator.text import (
    Answer,
    answer,
    embedding,
    split_tokens,
    token_bytes,
    token_id,
)

FAULTS_PATH = "/simulator/faults"
_OPEN_PATHS = frozenset({"/health", "/ping", "/metrics", "/version"})
_encode = msgspec.json.encode


class Routes:
    """Dispatches exchanges. Every path but those of health and metrics wants the engine's key."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._settings = serving.settings
        self._created = int(time.time())
        self._key = f"Bearer {serving.settings.engine_key}".encode() if serving.settings.engine_key else b""
        self._plain: dict[tuple[str, str], Callable[[Exchange], None]] = {
            ("GET", "/health"): lambda exchange: exchange.respond(200, b""),
            ("GET", "/ping"): lambda exchange: exchange.respond(200, b""),
            ("GET", "/version"): lambda exchange: exchange.respond(200, b'{"version":"simulator"}'),
            ("GET", "/metrics"): self._metrics,
            ("GET", "/v1/models"): self._models,
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/detokenize"): self._detokenize,
            ("GET", FAULTS_PATH): lambda exchange: exchange.respond(200, _encode(self._serving.faults)),
            ("PUT", FAULTS_PATH): self._set_faults,
        }
        self._inference: dict[tuple[str, str], Callable[[Exchange], None]] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._completion,
            ("POST", "/v1/embeddings"): self._embeddings,
            ("GET", "/v1/realtime"): self._realtime,
        }
        self._apis = Apis(serving, self._check_model)
        self._inference.update(self._apis.inference)
        self._paths = {path for _, path in (*self._plain, *self._inference)}

    def dispatch(self, exchange: Exchange) -> None:
        """Answer a request, now or while its tokens come."""
        if exchange.path != FAULTS_PATH and self._serving.park(lambda: self.dispatch(exchange)):
            return
        if self._serving.draining:
            exchange.keep_alive = False
        if exchange.path not in _OPEN_PATHS and not self._has_key(exchange):
            _fail(exchange, 401, "the engine's key is missing or wrong", kind="authentication_error")
            return
        name = (exchange.method, exchange.path)
        try:
            if name in self._inference:
                if self._serving.draining:
                    _fail(exchange, 503, "the engine is shutting down", kind="service_unavailable")
                elif self._serving.is_unavailable():
                    _fail(exchange, 503, "unavailable, as a fault was set", kind="service_unavailable")
                else:
                    self._inference[name](exchange)
            elif name in self._plain:
                self._plain[name](exchange)
            elif self._apis.stored(exchange):
                return
            elif exchange.path in self._paths:
                _fail(exchange, 405, f"{exchange.method} is not allowed on {exchange.path}")
            else:
                _fail(exchange, 404, f"{exchange.path}: no such route", kind="not_found_error")
        except BadRequest as error:
            _fail(exchange, error.status, str(error), param=error.param, code=error.code)

    def _has_key(self, exchange: Exchange) -> bool:
        return not self._key or hmac.compare_digest(exchange.authorization, self._key)

    def _metrics(self, exchange: Exchange) -> None:
        page = self._serving.metrics.render(self._serving.batch)
        exchange.respond(200, page, content_type=b"text/plain; version=0.0.4; charset=utf-8")

    def _models(self, exchange: Exchange) -> None:
        model = {
            "id": self._settings.served_model,
            "object": "model",
            "created": self._created,
            "owned_by": "meridian-simulator",
            "root": self._settings.served_model,
            "parent": None,
            "max_model_len": self._settings.max_context_tokens,
        }
        exchange.respond(200, _encode({"object": "list", "data": [model]}))

    def _set_faults(self, exchange: Exchange) -> None:
        try:
            faults = faults_from_json(exchange.body)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        self._serving.set_faults(faults)
        exchange.respond(200, _encode(faults))

    def _tokenize(self, exchange: Exchange) -> None:
        request = requests.decode(exchange.body, requests.TokenizeRequest)
        if request.messages is not None:
            text = requests.render_conversation(
                request.messages,
                add_generation_prompt=request.add_generation_prompt,
                continue_final_message=request.continue_final_message,
            )
        elif request.prompt is not None:
            text = request.prompt.encode()
        else:
            raise BadRequest("prompt: give prompt or messages", param="prompt")
        ids = [token_id(token) for token in split_tokens(text)]
        body = {"count": len(ids), "max_model_len": self._settings.max_context_tokens, "tokens": ids}
        exchange.respond(200, _encode({**body, "token_strs": None}))

    def _detokenize(self, exchange: Exchange) -> None:
        request = requests.decode(exchange.body, requests.DetokenizeRequest)
        try:
            text = b"".join(token_bytes(number) for number in request.tokens)
        except ValueError as error:
            raise BadRequest(str(error), param="tokens") from error
        exchange.respond(200, _encode({"prompt": text.decode(errors="replace")}))

    def _chat(self, exchange: Exchange) -> None:
        request = requests.decode(exchange.body, requests.ChatRequest)
        self._check_model(request.model)
        generation = requests.read_chat(request, self._settings)
        script = structured.of_chat(request.tools, request.tool_choice, request.response_format)
        tool = script.tool if script is not None else None
        form_of = ChatForm if tool is None else partial(ToolCallForm, tool)
        answer_id = f"chatcmpl-{uuid.uuid4().hex}"
        self._generate(exchange, generation, form_of, answer_id=answer_id, script=script)

    def _completion(self, exchange: Exchange) -> None:
        request = requests.decode(exchange.body, requests.CompletionRequest)
        self._check_model(request.model)
        generation = requests.read_completion(request, self._settings)
        self._generate(exchange, generation, CompletionForm, answer_id=f"cmpl-{uuid.uuid4().hex}")

    def _generate(
        self,
        exchange: Exchange,
        generation: requests.Generation,
        form_of: Callable[..., AnswerForm],
        *,
        answer_id: str,
        script: structured.Script | None = None,
    ) -> None:
        asked = [(prompt, sampling) for prompt in generation.prompts for sampling in generation.samplings]
        if script is not None:
            answers = [structured.scripted(script, sampling) for _, sampling in asked]
        else:
            answers = [answer(prompt, sampling) for prompt, sampling in asked]
        prompts = prompt_tokens_of(generation.prompts, len(generation.samplings))
        prompt_ids = None
        if generation.return_token_ids:
            prompt_ids = [[token_id(token) for token in prompt] for prompt in prompts]
        form = form_of(
            answer_id=answer_id,
            model=generation.adapter or self._settings.served_model,
            created=int(time.time()),
            prompt_ids=prompt_ids,
        )
        sink = (
            StreamSink(exchange, form, include_usage=generation.include_usage, choices=len(answers))
            if generation.stream
            else WholeSink(exchange, form, choices=len(answers))
        )
        job = self._serving.submit(prompts, answers, sink, adapter=generation.adapter)
        exchange.on_disconnect = lambda: self._serving.abort(job)

    def _realtime(self, exchange: Exchange) -> None:
        if not exchange.websocket_key:
            _fail(exchange, 426, "this route speaks WebSocket; connect with a WebSocket client")
        else:
            RealtimeSession(self._serving, exchange.upgrade())

    def _embeddings(self, exchange: Exchange) -> None:
        request = requests.decode(exchange.body, requests.EmbeddingRequest)
        self._check_model(request.model)
        if request.encoding_format not in ("float", "base64"):
            raise BadRequest(
                f"encoding_format: {request.encoding_format!r} is neither float nor base64",
                param="encoding_format",
            )
        dimensions = request.dimensions or self._settings.embedding_dimensions
        if not 1 <= dimensions <= 4096:
            raise BadRequest(f"dimensions: {dimensions} is not in 1 ... 4096", param="dimensions")
        prompts = prompt_tokens_of(requests.read_texts(request.input, param="input"), 1)
        room = min(self._settings.max_context_tokens, self._settings.model.kv_capacity_tokens) - 1
        if any(len(tokens) > room for tokens in prompts):
            raise BadRequest(
                f"input: longer than {room} tokens; shorten it", param="input", code="context_length_exceeded"
            )
        vectors = [embedding(tokens, dimensions=dimensions) for tokens in prompts]
        body = embeddings_body(
            vectors,
            model=request.model,
            base64=request.encoding_format == "base64",
            prompt_tokens=sum(len(tokens) for tokens in prompts),
        )
        nothing = Answer(tokens=(b"",), pieces=(b"",), finish_reason="stop")
        job = self._serving.submit(prompts, [nothing] * len(prompts), ReadySink(exchange, body))
        exchange.on_disconnect = lambda: self._serving.abort(job)

    def _check_model(self, model: str) -> None:
        if model != self._settings.served_model and model not in self._settings.adapters:
            raise BadRequest(
                f"model: {model!r} is not served here; use {self._settings.served_model!r}",
                param="model",
                status=404,
                code="model_not_found",
            )


def _fail(
    exchange: Exchange,
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
) -> None:
    if exchange.path.startswith("/v1/messages"):
        exchange.respond(status, messages_api.error_body(message, kind))
    else:
        exchange.respond(status, error_body(message, kind=kind, param=param, code=code))
