"""The spans of one followed request: its own, and below it one for each attempt to have it answered.

Whoever is asked in an attempt is told that attempt's span as its parent.
"""

import time
from time import monotonic

from workloadplane.gateway.answer import AnswerWriter
from workloadplane.gateway.attempt import Attempt, Inquiry
from workloadplane.gateway.reader import Request
from workloadplane.gateway.tracing import Attribute, EndedSpan, Span, SpanEvent, Tracer, follow

#: What OpenTelemetry's GenAI conventions call the classes of requests that they know.
_OPERATIONS = {
    "chat": "chat",
    "messages": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
#: How an attempt may end without anybody's fault.
_FAULTLESS = frozenset({"ok", "refused", "client_gone", "unready"})
PROVIDER = ("gen_ai.provider.name", "meridian")


def operation_of(route_class: str) -> str:
    """What a request of this class does."""
    return _OPERATIONS.get(route_class, route_class)


class Trail:
    """Of one request. ``span``: its own, which its record ends."""

    __slots__ = ("_attempt", "_began_at", "_child", "_model", "_operation", "_tracer", "span")

    def __init__(self, tracer: Tracer, span: Span, inquiry: Inquiry) -> None:
        self.span = span
        self._tracer = tracer
        self._operation = operation_of(inquiry.route_class.name)
        self._model = inquiry.route.deployment
        self._child = span
        self._attempt: Attempt | None = None
        self._began_at = 0.0

    def prepare(self, request: Request) -> None:
        """The next attempt's request names it to whoever is asked."""
        self._child = self._tracer.child_of(self.span)
        follow(request, self._child)

    def begin(self, attempt: Attempt) -> None:
        """It is about to be sent."""
        self._attempt = attempt
        self._began_at = time.time()

    def end(self, outcome: str, answer: AnswerWriter) -> None:
        """The attempt under way, if there is one, is over. ``outcome``: one of few words."""
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        served = attempt.served
        failed = outcome not in _FAULTLESS
        told: list[tuple[str, Attribute]] = [
            ("gen_ai.operation.name", self._operation),
            PROVIDER,
            ("gen_ai.request.model", self._model),
            ("server.address", attempt.target.host),
            ("server.port", attempt.target.port),
            ("meridian.cluster_id", served.cluster_id),
            ("meridian.region", served.region),
            ("meridian.outcome", outcome),
        ]
        if served.replica_id is not None:
            told.append(("meridian.replica_id", served.replica_id))
        if failed:
            told.append(("error.type", outcome))
        ended_at = time.time()
        self._tracer.end(
            EndedSpan(
                self._child,
                f"{self._operation} {self._model}",
                self._began_at,
                ended_at,
                failed,
                tuple(told),
                is_call=True,
                events=_first_token(answer, self._began_at, ended_at),
            )
        )


def _first_token(answer: AnswerWriter, began_at: float, ended_at: float) -> tuple[SpanEvent, ...]:
    """When it came, if it came in this attempt."""
    stream = answer.stream
    first_s = stream.first_event_s if stream is not None else None
    if first_s is None:
        return ()
    at = ended_at - (monotonic() - first_s)
    return (SpanEvent("meridian.first_token", at),) if at >= began_at else ()


def begin(tracer: Tracer, inquiry: Inquiry) -> Trail | None:
    """The request's trail if it is to be followed."""
    span = tracer.begin(inquiry.request)
    return Trail(tracer, span, inquiry) if span is not None else None
