"""An ended session, written down: usage record, counters, access log. Nothing of what was said.

Its tokens are those of its responses, as the engine told them: a response that had not ended counts none. Its
length is the record's duration, and stays out of the latency histograms, which are about answers.
"""

from dataclasses import dataclass

from workloadplane.gateway.accesslog import AccessLine, TunnelFigures
from workloadplane.gateway.attempt import Inquiry
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.heads import Served
from workloadplane.gateway.queueing.priority import NAMES
from workloadplane.gateway.routes import REALTIME
from workloadplane.gateway.tracing import Attribute, EndedSpan, Span
from workloadplane.gateway.trail import PROVIDER
from workloadplane.gateway.websocket.frames import FrameScanner
from workloadplane.gateway.websocket.replies import Replies
from workloadplane.protocol.usage import UsageRecord
from workloadplane.routing import Reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a session went. Times in seconds on the monotonic clock; ``ended_at`` since 1970."""

    request_id: str
    inquiry: Inquiry
    status: int
    outcome: str
    served: Served | None
    span: Span | None
    reasons: Reasons
    attempts: int
    began_s: float
    sent_s: float | None
    ended_s: float
    ended_at: float
    up: FrameScanner | None
    down: FrameScanner | None
    replies: Replies


def record(context: GatewayContext, done: Ended) -> None:
    """Write it down. A session that a peer passed on is counted there, where its client was met."""
    priority = NAMES[done.inquiry.wish.priority]
    deployment_id = done.inquiry.route.deployment_id
    context.counters.requests[deployment_id, REALTIME.name, priority, str(done.status), done.outcome] += 1
    figures = None
    if done.up is not None and done.down is not None:
        figures = TunnelFigures(
            messages_in=done.up.messages,
            messages_out=done.down.messages,
            bytes_in=done.up.payload_bytes,
            bytes_out=done.down.payload_bytes,
        )
    if done.inquiry.caller.statement is None:
        _count(context, done)
    if done.span is not None:
        context.tracer.end(_ended(done.span, done, figures))
    caller, route, served = done.inquiry.caller, done.inquiry.route, done.served
    context.access_log.add(
        AccessLine(
            time=done.ended_at,
            request_id=done.request_id,
            route=REALTIME.name,
            status=done.status,
            outcome=done.outcome,
            project_id=caller.api_key.project_id,
            api_key_id=caller.api_key.api_key_id,
            deployment=route.deployment,
            replica_id=served.replica_id if served else None,
            served_region=served.region if served else None,
            reasons=done.reasons,
            attempts=done.attempts,
            queue_s=(done.sent_s or done.ended_s) - done.began_s,
            ttft_s=None,
            duration_s=done.ended_s - done.began_s,
            input_tokens=done.replies.input_tokens,
            output_tokens=done.replies.output_tokens,
            cached_tokens=done.replies.cached_tokens,
            tunnel=figures,
            priority=priority,
            adapter=done.inquiry.adapter,
            trace_id=done.span.trace_id if done.span is not None else None,
        )
    )


def _ended(span: Span, done: Ended, figures: TunnelFigures | None) -> EndedSpan:
    """The session as a span: messages and bytes where a request's has tokens."""
    told: list[tuple[str, Attribute]] = [
        ("gen_ai.operation.name", REALTIME.name),
        PROVIDER,
        ("gen_ai.request.model", done.inquiry.route.deployment),
        ("http.response.status_code", done.status),
        ("meridian.request_id", done.request_id),
        ("meridian.outcome", done.outcome),
        ("meridian.attempts", done.attempts),
        ("meridian.queue_s", (done.sent_s or done.ended_s) - done.began_s),
    ]
    if figures is not None:
        told += [
            ("meridian.messages_in", figures.messages_in),
            ("meridian.messages_out", figures.messages_out),
            ("meridian.bytes_in", figures.bytes_in),
            ("meridian.bytes_out", figures.bytes_out),
        ]
    if done.served is not None:
        told += [("meridian.region", done.served.region), ("meridian.cluster_id", done.served.cluster_id)]
        if done.served.replica_id is not None:
            told.append(("meridian.replica_id", done.served.replica_id))
    failed = done.outcome == "upstream_error" or done.status >= 500
    if failed:
        told.append(("error.type", done.outcome))
    name = f"{REALTIME.name} {done.inquiry.route.deployment}"
    began_at = done.ended_at - (done.ended_s - done.began_s)
    return EndedSpan(span, name, began_at, done.ended_at, failed, tuple(told))


def _count(context: GatewayContext, done: Ended) -> None:
    caller, route, served = done.inquiry.caller, done.inquiry.route, done.served
    header = context.registry.header
    if served is not None and served.revision_id:
        traffic = context.traffic.of(route.deployment_id, served.revision_id)
    else:
        traffic = context.waiting_traffic(route)
    traffic.window.requests += 1
    traffic.window.errors += done.outcome == "upstream_error" or done.status >= 500
    traffic.window.input_tokens += done.replies.input_tokens
    traffic.window.cached_tokens += done.replies.cached_tokens
    traffic.window.output_tokens += done.replies.output_tokens
    context.spool.append_usage(
        UsageRecord(
            gateway_instance=context.spool.gateway_instance,
            sequence=context.spool.next_usage_sequence(),
            request_id=done.request_id,
            finished_at=done.ended_at,
            project_id=caller.api_key.project_id,
            api_key_id=caller.api_key.api_key_id,
            deployment_id=route.deployment_id,
            revision_id=traffic.revision_id,
            revision=served.revision if served else 0,
            replica_id=served.replica_id if served else None,
            pool_id=served.pool_id if served else None,
            served_cluster_id=served.cluster_id if served else None,
            origin=header.region if header else "",
            request_class="interactive",
            route=REALTIME.name,
            status=done.status,
            outcome=done.outcome,
            input_tokens=done.replies.input_tokens,
            cached_tokens=done.replies.cached_tokens,
            output_tokens=done.replies.output_tokens,
            queue_s=(done.sent_s or done.ended_s) - done.began_s,
            ttft_s=None,
            duration_s=done.ended_s - done.began_s,
            inter_token_latency_s_mean=None,
            inter_token_latency_s_max=None,
        )
    )
