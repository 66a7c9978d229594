"""One stream's readiness to go on elsewhere: what was asked, what was told, how often it broke."""

import math
import re
from dataclasses import dataclass, replace

import msgspec

from workloadplane.gateway import body as bodies
from workloadplane.gateway.attempt import Inquiry
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.resume.continuation import continuation
from workloadplane.gateway.resume.kept import Kept
from workloadplane.gateway.resume.rewriting import Rewriter, closing
from workloadplane.gateway.resume.told import Told
from workloadplane.gateway.routes import ROUTES

#: So often a stream may break: without a new token in between, and at all.
_FRUITLESS_BREAKS_MAX = 3
_BREAKS_MAX = 8
_DONE = b"data: [DONE]\n\n"
_ERROR_EVENT = re.compile(rb'(?:^|(?<=\n))(?:event: ?error\r?\n)?data: ?(\{"error".*)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to go on: ask for ``inquiry`` and pass its answer through ``rewriter``."""

    inquiry: Inquiry
    rewriter: Rewriter


class Resumption:
    """One stream's, from its head to its end. Keeps the client's body: ``release`` it."""

    __slots__ = ("_body", "_breaks", "_context", "_fruitless", "_inquiry", "_tokens_at_break", "kept")

    def __init__(self, context: GatewayContext, inquiry: Inquiry) -> None:
        self._context = context
        self._inquiry = inquiry
        self._body = inquiry.request.body
        self._breaks = 0
        self._fruitless = 0
        self._tokens_at_break = -1
        self.kept = Kept(hides_ids=inquiry.asks_token_ids)
        context.resume_bytes += len(self._body)

    def release(self) -> None:
        """The stream has ended."""
        self._context.resume_bytes -= len(self._body)
        self._body = b""

    def plan(self, revision_id: str, *, broke: bool = True) -> Plan | bytes | str:
        """How to go on, the missing end of an answer that was complete, or why neither can be.

        broke: it is so again; else it is to be ended and gone on with later
        """
        told = self.kept.told()
        if self.kept.overflowed:
            return "an answer longer than what is kept"
        if told.finish_reason is not None and told.unfit is None:
            end = closing(told)
            if end is None and not self._inquiry.body.wants_usage:
                end = _DONE
            return end or "an answer whose usage is lost"
        if not revision_id:
            return "an answer of a revision that is not known"
        if broke and self._breaks_again(told):
            return "a stream that broke again and again"
        hidden = self._inquiry.asks_token_ids
        asked = continuation(self._inquiry.request.path, self._body, told, ids_hidden=hidden)
        if isinstance(asked, str):
            return asked
        parsed = bodies.parse(asked.body)
        if isinstance(parsed, Failure):
            return "a body that can't be read again"
        told.forget_unshown()
        inquiry = msgspec.structs.replace(
            self._inquiry,
            request=msgspec.structs.replace(
                self._inquiry.request, path=asked.path, body=asked.body, charged_bytes=0
            ),
            route_class=ROUTES[asked.path],
            body=parsed,
            wish=replace(self._inquiry.wish, answer_within_s=math.inf),  # its answer has begun in time
            revision_id=revision_id,
        )
        return Plan(inquiry, Rewriter(asked, told))

    def _breaks_again(self, told: Told) -> bool:
        """Count a break; whether it is one too many."""
        self._breaks += 1
        self._fruitless = self._fruitless + 1 if told.tokens_sent == self._tokens_at_break else 1
        self._tokens_at_break = told.tokens_sent
        return self._fruitless > _FRUITLESS_BREAKS_MAX or self._breaks > _BREAKS_MAX


def resumption(context: GatewayContext, inquiry: Inquiry) -> Resumption | None:
    """For a stream that has begun; ``None``: opted out, or too much is kept already."""
    if not inquiry.may_resume:
        return None
    if context.resume_bytes + len(inquiry.request.body) > context.limits.resume_bytes_max:
        return None
    return Resumption(context, inquiry)


def before_failure(events: bytes) -> bytes | None:
    """The events before one in which the engine or a peer says that it failed; ``None`` if the client is at fault."""
    found = _ERROR_EVENT.search(events)
    if found is None:
        return None
    try:
        told = msgspec.json.decode(found[1])
    except msgspec.DecodeError:
        return None
    error = told.get("error") if isinstance(told, dict) else None
    if not isinstance(error, dict):
        return None
    code, kind = error.get("code"), error.get("type")
    is_ours = (isinstance(code, int) and code >= 500) or kind in ("server_error", "InternalServerError")
    return events[: found.start()] if is_ours else None
