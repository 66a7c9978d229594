"""``/v1/realtime``: a conversation over a WebSocket, the textual part of OpenAI's realtime events.

Understood: ``session.update``, ``conversation.item.create``, ``response.create``, ``response.cancel``. Anything
else is answered with an ``error`` event, as the real one does; the session goes on.
"""

import uuid
from typing import Any

import msgspec

from workloadplane.engines.simulator import requests
from workloadplane.engines.simulator.answers import Usage
from workloadplane.engines.simulator.requests import BadRequest, ChatRequest, Message
from workloadplane.engines.simulator.serving import Job, Serving, prompt_tokens_of
from workloadplane.engines.simulator.text import answer
from workloadplane.engines.simulator.websocket import WebSocket

_encode = msgspec.json.encode


class _Content(msgspec.Struct):
    type: str = "input_text"
    text: str = ""


class _Item(msgspec.Struct):
    type: str = "message"
    role: str = "user"
    id: str | None = None
    content: list[_Content] = []


class _Session(msgspec.Struct):
    instructions: str | None = None
    temperature: float | None = None
    max_response_output_tokens: int | str | None = None


class _Event(msgspec.Struct):
    type: str
    event_id: str | None = None
    session: _Session | None = None
    item: _Item | None = None
    response: _Session | None = None


class RealtimeSession:
    """One conversation."""

    def __init__(self, serving: Serving, socket: WebSocket) -> None:
        """Greets at once."""
        self._serving = serving
        self._socket = socket
        self._session = _Session(instructions="")
        self._session_id = _name("sess")
        self._messages: list[Message] = []
        self._response: _Response | None = None
        socket.peer = self
        self._say("session.created", session=self._described())

    @property
    def is_idle(self) -> bool:
        """Whether no response is under way."""
        return self._response is None

    def on_gone(self) -> None:
        """The client is gone: the engine stops."""
        self._cancel()

    def on_message(self, message: bytes) -> None:
        """One event of the client."""
        event_id = None
        try:
            event = requests.decode(message, _Event)
            event_id = event.event_id
            self._take(event)
        except BadRequest as error:
            told = {"type": "invalid_request_error", "code": error.code, "message": str(error)}
            self._say("error", error={**told, "param": error.param, "event_id": event_id})

    def _take(self, event: _Event) -> None:
        if event.type == "session.update" and event.session is not None:
            for name in event.session.__struct_fields__:
                value = getattr(event.session, name)
                if value is not None:
                    setattr(self._session, name, value)
            self._say("session.updated", session=self._described())
        elif event.type == "session.update":
            self._say("session.updated", session=self._described())
        elif event.type == "conversation.item.create" and event.item is not None:
            item = event.item
            item.id = item.id or _name("item")
            self._messages.append(Message(item.role, "".join(part.text for part in item.content)))
            self._say("conversation.item.created", item=item)
        elif event.type == "response.create":
            self._respond(event.response or _Session())
        elif event.type == "response.cancel":
            self._cancel()
        else:
            raise BadRequest(f"type: {event.type!r} is not understood here", param="type")

    def _respond(self, given: _Session) -> None:
        if self._response is not None:
            raise BadRequest(
                "a response is under way; cancel it or wait for its end",
                code="conversation_already_has_active_response",
            )
        settings = self._serving.settings
        if self._serving.draining:
            raise BadRequest("the engine is shutting down", code="service_unavailable")
        instructions = given.instructions or self._session.instructions
        limit = given.max_response_output_tokens or self._session.max_response_output_tokens
        temperature = given.temperature if given.temperature is not None else self._session.temperature
        messages = [Message("system", instructions)] if instructions else []
        asked = ChatRequest(
            model=settings.served_model,
            messages=[*messages, *self._messages] or [Message("system", "")],
            max_tokens=limit if isinstance(limit, int) else None,
            temperature=temperature,
        )
        generation = requests.read_chat(asked, settings)
        answers = [answer(generation.prompts[0], generation.samplings[0])]
        self._response = response = _Response(self)
        self._say("response.created", response={**response.described("in_progress"), "output": []})
        response.job = self._serving.submit(prompt_tokens_of(generation.prompts, 1), answers, response)

    def _cancel(self) -> None:
        response = self._response
        if response is not None and response.job is not None:
            self._serving.abort(response.job)
            self.ended(response, "cancelled", None)

    # What a response brings

    def delta(self, response: "_Response", text: str) -> None:
        """Some text of the answer."""
        self._say("response.text.delta", **response.place(), delta=text)

    def ended(self, response: "_Response", status: str, usage: Usage | None) -> None:
        """The answer is complete, or as far as it goes."""
        self._response = None
        text = response.text
        self._messages.append(Message("assistant", text))
        self._say("response.text.done", **response.place(), text=text)
        told = usage or Usage(prompt_tokens=0, completion_tokens=0, cached_tokens=0)
        item = {
            "id": response.item_id,
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": text}],
        }
        self._say(
            "response.done",
            response={
                **response.described(status),
                "output": [item],
                "usage": {
                    "total_tokens": told.prompt_tokens + told.completion_tokens,
                    "input_tokens": told.prompt_tokens,
                    "output_tokens": told.completion_tokens,
                    "input_token_details": {"cached_tokens": told.cached_tokens},
                },
            },
        )

    def broken(self) -> None:
        """A fault: the connection ends here."""
        self._response = None
        self._socket.close(1011, "the engine failed")

    def _described(self) -> dict[str, Any]:
        return {
            "id": self._session_id,
            "object": "realtime.session",
            "model": self._serving.settings.served_model,
            "modalities": ["text"],
            **msgspec.structs.asdict(self._session),
        }

    def _say(self, kind: str, **members: Any) -> None:
        self._socket.send(_encode({"type": kind, "event_id": _name("event"), **members}))


class _Response:
    """One answer, as a sink of the engine's tokens."""

    def __init__(self, session: RealtimeSession) -> None:
        self._session = session
        self._pieces: list[bytes] = []
        self.job: Job | None = None
        self.response_id = _name("resp")
        self.item_id = _name("item")

    @property
    def text(self) -> str:
        return b"".join(self._pieces).decode(errors="replace")

    def place(self) -> dict[str, Any]:
        return {
            "response_id": self.response_id,
            "item_id": self.item_id,
            "output_index": 0,
            "content_index": 0,
        }

    def described(self, status: str) -> dict[str, Any]:
        return {"id": self.response_id, "object": "realtime.response", "status": status}

    def token(self, index: int, piece: bytes, token: bytes, finish_reason: str | None) -> None:
        """Send one event."""
        self._pieces.append(piece)
        if piece:
            self._session.delta(self, piece.decode(errors="replace"))

    def done(self, usage: Usage) -> None:
        """All tokens have come."""
        self._session.ended(self, "completed", usage)

    def cut(self) -> None:
        """Break off."""
        self._session.broken()


def _name(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:16]}"
