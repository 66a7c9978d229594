"""One try at one replica or peer gateway: where it goes and the bytes that are sent there."""

import math
import time
from secrets import token_hex
from time import monotonic
from urllib.parse import urlsplit

import msgspec

from workloadplane.gateway import heads, multipart
from workloadplane.gateway.admission import Caller
from workloadplane.gateway.affinity import NO_PROMPT, Prompt
from workloadplane.gateway.body import (
    InferenceBody,
    ResponsesBody,
    with_model,
    with_request_id,
    with_token_ids_asked,
    with_usage_asked,
    without_priority,
)
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.ejections import Vitals
from workloadplane.gateway.entry import Wish
from workloadplane.gateway.heads import Served
from workloadplane.gateway.peers import LIFETIME_S, PEER_HEADER, PeerStatement, hold_comment, sign
from workloadplane.gateway.reader import Request
from workloadplane.gateway.routes import JSON, NO_BODY, RouteClass
from workloadplane.gateway.stored import Holder
from workloadplane.gateway.upstream import Target
from workloadplane.gateway.usage import RevisionTraffic
from workloadplane.protocol.local import Endpoint
from workloadplane.protocol.routing import Peer, Route
from workloadplane.routing import ToPeer

RESUME_HEADER = b"x-meridian-resume"
#: Engines that know ``return_token_ids``; another one might refuse what it does not know.
_NUMBERING_ENGINES = frozenset({"vllm", "simulator"})
#: Engines that call a response as the request says; others refuse members that they do not know.
_NAMING_ENGINES = frozenset({"vllm", "sglang", "simulator"})


class Inquiry(msgspec.Struct):
    """What a client asked for, checked and parsed.

    model_at:    where a form names its model
    prompt:      hashed; only of classes whose engines keep prompts in a cache
    adapter:     the LoRA adapter that is asked for
    holder:      who alone can answer, for it holds the stored response that is asked for or gone on from
    characters:  of the text that is to be spoken
    revision_id: the only one that may serve it, as it is the rest of what that one began; ``None`` = any
    """

    request: Request
    route_class: RouteClass
    caller: Caller
    body: InferenceBody
    route: Route
    wish: Wish
    model_at: slice | None = None
    holder: Holder | None = None
    prompt: Prompt = NO_PROMPT
    adapter: str | None = None
    characters: int = 0
    revision_id: str | None = None

    @property
    def to_peer(self) -> bool:
        """Whether the answer goes to another gateway, which then accounts for it."""
        return self.caller.statement is not None

    @property
    def may_repeat(self) -> bool:
        """Whether an engine may be given it twice, as long as nobody has seen anything of an answer.

        Generating again is harmless; storing a response again is not, unless the client gave a key by which it can
        be known again.
        """
        request = self.request
        if isinstance(self.body, ResponsesBody) and self.body.store is not False:
            return b"idempotency-key" in request.headers
        return request.method in (b"POST", b"GET") and not request.path.endswith(b"/cancel")

    @property
    def asks_usage(self) -> bool:
        """Whether the gateway must ask the engine for a usage chunk that the client did not ask for."""
        return self.route_class.usage_on_request and bool(self.body.stream) and not self.body.wants_usage

    @property
    def may_resume(self) -> bool:
        """Whether its stream is continued elsewhere when it breaks: unless client or deployment opted out."""
        if not (self.route_class.usage_on_request and self.body.stream and self.route.resume):
            return False
        statement = self.caller.statement
        if statement is not None:
            return statement.may_resume
        return self.request.headers.get(RESUME_HEADER) != b"off"

    @property
    def asks_token_ids(self) -> bool:
        """Whether the gateway must ask for tokens' numbers: not where a parser of tools hides them in events."""
        return (
            self.may_resume and self.body.return_token_ids is None and self.request.body.rfind(b'"tools"') < 0
        )


class Attempt(msgspec.Struct):
    """One try at one replica or peer.

    name:     its replica or cluster id, as the routing room knows it
    may_hold: the peer was asked to wait for a replica, so what it says is final
    held:     the line by which the peer says that the stream waits there; empty: it says it of none
    answered: the head of an answer has come
    vitals:   of its replica; ``None`` before it is sent, and for peers
    stuck:    its replica was found stuck; ``stays``: and it can't be moved elsewhere
    afresh:   on a new connection: one from the pool may end under it, and it may not be sent again then
    anew_bytes: of the prompt, to be computed there as far as is known
    burden:   the load that this is, until it has been computed
    """

    name: str
    target: Target
    head: bytes
    body: bytes
    served: Served
    peer: Peer | None
    traffic: RevisionTraffic | None
    may_hold: bool = False
    held: bytes = b""
    was_sent: bool = False
    answered: bool = False
    sent_s: float = 0.0
    vitals: Vitals | None = None
    stuck: bool = False
    stays: bool = False
    afresh: bool = False
    anew_bytes: int = 0
    burden: float = 0.0


def attempt_at_replica(
    context: GatewayContext, inquiry: Inquiry, replica_id: str, request_id: str
) -> Attempt:
    """Send to a replica of this cluster, with that replica's own key instead of the client's."""
    way = context.ways.to(context.registry, replica_id)
    endpoint = way.endpoint
    body = _body_for_engine(context, inquiry, endpoint)
    head = _framed(heads.request_head(inquiry.request, way.lines, request_id), body)
    traffic = context.traffic.of(endpoint.deployment_id, endpoint.revision_id)
    attempt = Attempt(replica_id, way.target, head, body, way.served, None, traffic)
    attempt.afresh = not inquiry.may_repeat
    return attempt


def statement_to(
    context: GatewayContext,
    inquiry: Inquiry,
    peer: Peer,
    request_id: str,
    *,
    may_hold: bool,
    hold_mark: str = "",
) -> PeerStatement:
    """What we say to a peer of a request that we pass on to it."""
    registry = context.registry
    return PeerStatement(
        sender=registry.cluster_id,
        audience=peer.cluster_id,
        expires_at=time.time() + LIFETIME_S,
        request_id=request_id,
        api_key_id=inquiry.caller.api_key.api_key_id,
        origin_region=registry.region,
        residency=inquiry.route.residency,
        may_hold=may_hold,
        priority=inquiry.wish.priority,
        answer_within_s=time_left_s(inquiry),
        revision_id=inquiry.revision_id or "",
        may_resume=inquiry.may_resume,
        hold_mark=hold_mark,
    )


def attempt_at_peer(
    context: GatewayContext, inquiry: Inquiry, choice: ToPeer, request_id: str
) -> Attempt | None:
    """Send to a peer's gateway, with the client's key and our statement; ``None`` if we can't speak to it."""
    registry = context.registry
    peer = registry.peer(choice.cluster_id)
    target = target_of(peer.url) if peer else None
    if peer is None or target is None or context.private_key is None:
        return None
    mark = token_hex(8) if inquiry.may_resume else ""
    statement = statement_to(context, inquiry, peer, request_id, may_hold=choice.may_hold, hold_mark=mark)
    body = _body_asked(inquiry, numbers=True)
    headers = inquiry.request.headers
    credential = headers.get(b"authorization") or b"Bearer " + headers[b"x-api-key"]
    lines = heads.constant_lines(target.authority, credential)
    head = heads.request_head(inquiry.request, lines, request_id)
    head += b"%s: %s\r\n" % (PEER_HEADER, sign(statement, context.private_key))
    served = Served(peer.cluster_id, peer.region, None, "", 0, None)
    return Attempt(
        peer.cluster_id,
        target,
        _framed(head, body),
        body,
        served,
        peer,
        traffic=None,
        may_hold=choice.may_hold,
        held=hold_comment(mark) if mark else b"",
        afresh=not inquiry.may_repeat,
    )


def _body_for_engine(context: GatewayContext, inquiry: Inquiry, endpoint: Endpoint) -> bytes:
    parsed = inquiry.body
    if parsed.stream or inquiry.route_class.body == NO_BODY:
        body = _body_asked(inquiry, numbers=endpoint.engine in _NUMBERING_ENGINES)
    else:
        body = inquiry.request.body  # nothing is asked beside an answer that is no stream
    if parsed.priority:
        body = without_priority(body)  # it has counted here; most engines refuse one
    if isinstance(parsed, ResponsesBody) and parsed.store is not False and endpoint.engine in _NAMING_ENGINES:
        made = context.response_ids.make(context.registry, inquiry.route, endpoint.replica_id)
        body = with_request_id(body, made)
    served = endpoint.served_model
    if inquiry.adapter is not None:
        served = f"{served}:{inquiry.adapter}"
    if served != parsed.model:
        if inquiry.route_class.body == JSON:
            body = with_model(body, served)
        elif inquiry.model_at is not None:
            body = multipart.with_model(body, inquiry.model_at, served)
    return body


def time_left_s(inquiry: Inquiry) -> float | None:
    """Until its client wants no answer any more; the peer's clock begins when it comes there."""
    within_s = inquiry.wish.answer_within_s
    return None if within_s == math.inf else max(0.001, within_s - (monotonic() - inquiry.request.began_s))


def _body_asked(inquiry: Inquiry, *, numbers: bool) -> bytes:
    """The client's body and what the gateway asks beside it: usage, and numbers of tokens to resume by."""
    body = inquiry.request.body if inquiry.route_class.body != NO_BODY else b""
    if numbers and inquiry.asks_token_ids:
        body = with_token_ids_asked(body)
    return with_usage_asked(body, inquiry.body) if inquiry.asks_usage else body


def _framed(head: bytes, body: bytes) -> bytes:
    return head + b"content-length: %d\r\n\r\n" % len(body)


def target_of(url: str) -> Target | None:
    """Where a peer's URL points; ``None`` if it is not one that we can connect to."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return None
    return Target(parts.hostname, port or (443 if parts.scheme == "https" else 80), parts.scheme == "https")
