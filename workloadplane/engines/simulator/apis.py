"""The routes beside chat, completions and embeddings: Responses, Messages, scores, audio."""

from collections.abc import Callable

import msgspec

from workloadplane.engines.simulator import audio, messages_api, requests, responses_api, scoring, structured
from workloadplane.engines.simulator.connection import Exchange
from workloadplane.engines.simulator.requests import BadRequest, ChatRequest
from workloadplane.engines.simulator.serving import Serving, Sink, prompt_tokens_of
from workloadplane.engines.simulator.sinks import NamedEvents, NamedEventsSink, ReadySink
from workloadplane.engines.simulator.text import Answer, answer, split_tokens

_NOTHING = Answer(tokens=(b"",), pieces=(b"",), finish_reason="stop")
_STORED = "/v1/responses/"
_encode = msgspec.json.encode


class Apis:
    """Handlers by method and path. Stored responses live here, and die with the process."""

    def __init__(self, serving: Serving, check_model: Callable[[str], None]) -> None:
        self._serving = serving
        self._settings = serving.settings
        self._check_model = check_model
        self._store = responses_api.ResponseStore()
        self.inference: dict[tuple[str, str], Callable[[Exchange], None]] = {
            ("POST", "/v1/responses"): self._responses,
            ("POST", "/v1/messages"): self._messages,
            ("POST", "/v1/messages/count_tokens"): self._count_tokens,
            ("POST", "/v1/audio/transcriptions"): self._transcription,
            ("POST", "/v1/audio/translations"): self._transcription,
            ("POST", "/v1/audio/speech"): self._speech,
        }
        for path in ("/score", "/v1/score"):
            self.inference["POST", path] = self._score
        for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
            self.inference["POST", path] = self._rerank

    def stored(self, exchange: Exchange) -> bool:
        """Answer if the path is that of a stored response."""
        if not exchange.path.startswith(_STORED):
            return False
        name, _, verb = exchange.path.removeprefix(_STORED).partition("/")
        stored = self._store.get(name)
        if (exchange.method, verb) == ("GET", ""):
            exchange.respond(200, stored.body)
        elif (exchange.method, verb) == ("DELETE", ""):
            self._store.drop(name)
            exchange.respond(200, _encode({"id": name, "object": "response", "deleted": True}))
        elif (exchange.method, verb) == ("POST", "cancel"):
            raise BadRequest("Cannot cancel a synchronous response.", param="response_id")
        else:
            return False
        return True

    def _responses(self, exchange: Exchange) -> None:
        request = requests.decode(exchange.body, responses_api.ResponsesRequest)
        self._check_model(request.model)
        if request.background:
            raise BadRequest("background: the simulated engine has none; leave it out", param="background")
        turns = responses_api.turns_of(request, self._store)
        script = structured.of_responses(request.tools, request.tool_choice, request.text)
        form = responses_api.ResponseForm(request, request.model, turns, script, self._store)
        chat = responses_api.as_chat(request, turns)
        self._generate(exchange, chat, script, lambda _: form, stream=bool(request.stream))

    def _messages(self, exchange: Exchange) -> None:
        request = requests.decode(exchange.body, messages_api.MessagesRequest)
        self._check_model(request.model)
        if request.max_tokens is None:
            raise BadRequest("max_tokens: is required", param="max_tokens")
        script = structured.of_messages(request.tools, request.tool_choice, request.output_config)
        self._generate(
            exchange,
            messages_api.as_chat(request),
            script,
            lambda prompt_tokens: messages_api.MessageForm(request.model, prompt_tokens, script),
            stream=bool(request.stream),
        )

    def _count_tokens(self, exchange: Exchange) -> None:
        request = requests.decode(exchange.body, messages_api.MessagesRequest)
        self._check_model(request.model)
        generation = requests.read_chat(messages_api.as_chat(request), self._settings)
        exchange.respond(200, _encode({"input_tokens": len(split_tokens(generation.prompts[0]))}))

    def _generate(
        self,
        exchange: Exchange,
        chat: ChatRequest,
        script: structured.Script | None,
        form_of: Callable[[int], NamedEvents],
        *,
        stream: bool,
    ) -> None:
        generation = requests.read_chat(chat, self._settings)
        sampling = generation.samplings[0]
        said = (
            answer(generation.prompts[0], sampling)
            if script is None
            else structured.scripted(script, sampling)
        )
        prompts = prompt_tokens_of(generation.prompts, 1)
        sink = NamedEventsSink(exchange, form_of(len(prompts[0])), stream=stream)
        self._submit(exchange, prompts, [said], sink, adapter=generation.adapter)

    def _score(self, exchange: Exchange) -> None:
        request = requests.decode(exchange.body, scoring.ScoreRequest)
        self._check_model(request.model)
        pairs = [(split_tokens(a.encode()), split_tokens(b.encode())) for a, b in scoring.pairs_of(request)]
        scores = [scoring.score(left, right) for left, right in pairs]
        prompts = [left + right for left, right in pairs]
        total = sum(len(prompt) for prompt in prompts)
        self._answer_later(
            exchange, prompts, scoring.score_body(scores, model=request.model, prompt_tokens=total)
        )

    def _rerank(self, exchange: Exchange) -> None:
        request = requests.decode(exchange.body, scoring.RerankRequest)
        self._check_model(request.model)
        if not request.documents:
            raise BadRequest("documents: must not be empty", param="documents")
        query = split_tokens(request.query.encode())
        documents = [split_tokens(text.encode()) for text in request.documents]
        scores = [scoring.score(query, document) for document in documents]
        prompts = [query + document for document in documents]
        total = sum(len(prompt) for prompt in prompts)
        self._answer_later(exchange, prompts, scoring.rerank_body(request, scores, prompt_tokens=total))

    def _transcription(self, exchange: Exchange) -> None:
        recording = audio.read_form(exchange.body, exchange.content_type)
        self._check_model(recording.model)
        prompt = recording.prompt
        room = min(self._settings.max_context_tokens, self._settings.model.kv_capacity_tokens) - len(prompt)
        if room < 1:
            raise BadRequest("file: longer than this model hears at once; cut it", param="file")
        sink = NamedEventsSink(exchange, audio.TranscriptForm(recording), stream=recording.stream)
        self._submit(exchange, [prompt], [recording.transcript(max_tokens=room)], sink)

    def _speech(self, exchange: Exchange) -> None:
        request = requests.decode(exchange.body, audio.SpeechRequest)
        self._check_model(request.model)
        prompt = split_tokens(request.input.encode())
        sink = ReadySink(exchange, audio.speech(request), b"audio/wav")
        self._submit(exchange, [prompt], [_NOTHING], sink)

    def _answer_later(self, exchange: Exchange, prompts: list[list[bytes]], body: bytes) -> None:
        room = min(self._settings.max_context_tokens, self._settings.model.kv_capacity_tokens) - 1
        if any(len(prompt) > room for prompt in prompts):
            raise BadRequest(
                f"a text is longer than {room} tokens; shorten it", code="context_length_exceeded"
            )
        self._submit(exchange, prompts, [_NOTHING] * len(prompts), ReadySink(exchange, body))

    def _submit(
        self,
        exchange: Exchange,
        prompts: list[list[bytes]],
        answers: list[Answer],
        sink: Sink,
        *,
        adapter: str = "",
    ) -> None:
        job = self._serving.submit(prompts, answers, sink, adapter=adapter)
        exchange.on_disconnect = lambda: self._serving.abort(job)
