"""An ended session, written down beside its usage (``account``): counters, access log, its span. Nothing of what was
said.
"""

import time
from dataclasses import dataclass
from time import monotonic

from workloadplane.gateway.accesslog import AccessLine, TunnelFigures
from workloadplane.gateway.attempt import Inquiry
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.queueing.priority import NAMES
from workloadplane.gateway.routes import REALTIME
from workloadplane.gateway.tracing import Attribute, EndedSpan, Span
from workloadplane.gateway.trail import PROVIDER
from workloadplane.gateway.websocket.account import Account
from workloadplane.gateway.websocket.tunnel import Tunnel
from workloadplane.routing import Reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a session went. ``tunnel``: what it carried, if it came so far."""

    inquiry: Inquiry
    status: int
    outcome: str
    span: Span | None
    reasons: Reasons
    account: Account
    tunnel: Tunnel | None


def record(context: GatewayContext, done: Ended) -> None:
    """Write it down."""
    account, caller, route = done.account, done.inquiry.caller, done.inquiry.route
    priority = NAMES[done.inquiry.wish.priority]
    context.counters.requests[
        route.deployment_id, REALTIME.name, priority, str(done.status), done.outcome
    ] += 1
    figures = None
    if done.tunnel is not None:
        up, down = done.tunnel.up, done.tunnel.down
        figures = TunnelFigures(
            messages_in=up.messages,
            messages_out=down.messages,
            bytes_in=up.payload_bytes,
            bytes_out=down.payload_bytes,
        )
    ended_at, duration_s = time.time(), monotonic() - account.began_s
    if done.span is not None:
        context.tracer.end(_ended(done.span, done, figures, ended_at, duration_s))
    served = account.served
    context.access_log.add(
        AccessLine(
            time=ended_at,
            request_id=account.request_id,
            route=REALTIME.name,
            status=done.status,
            outcome=done.outcome,
            project_id=caller.api_key.project_id,
            api_key_id=caller.api_key.api_key_id,
            deployment=route.deployment,
            replica_id=served.replica_id if served else None,
            served_region=served.region if served else None,
            reasons=done.reasons,
            attempts=account.attempts,
            queue_s=account.queue_s,
            ttft_s=None,
            duration_s=duration_s,
            input_tokens=account.spent.input_tokens,
            output_tokens=account.spent.output_tokens,
            cached_tokens=account.spent.cached_tokens,
            tunnel=figures,
            priority=priority,
            adapter=done.inquiry.adapter,
            trace_id=done.span.trace_id if done.span is not None else None,
        )
    )


def _ended(
    span: Span, done: Ended, figures: TunnelFigures | None, ended_at: float, duration_s: float
) -> EndedSpan:
    """The session as a span: messages and bytes where a request's has tokens."""
    account = done.account
    told: list[tuple[str, Attribute]] = [
        ("gen_ai.operation.name", REALTIME.name),
        PROVIDER,
        ("gen_ai.request.model", done.inquiry.route.deployment),
        ("http.response.status_code", done.status),
        ("meridian.request_id", account.request_id),
        ("meridian.outcome", done.outcome),
        ("meridian.attempts", account.attempts),
        ("meridian.queue_s", account.queue_s),
    ]
    if figures is not None:
        told += [
            ("meridian.messages_in", figures.messages_in),
            ("meridian.messages_out", figures.messages_out),
            ("meridian.bytes_in", figures.bytes_in),
            ("meridian.bytes_out", figures.bytes_out),
        ]
    if account.served is not None:
        told += [
            ("meridian.region", account.served.region),
            ("meridian.cluster_id", account.served.cluster_id),
        ]
        if account.served.replica_id is not None:
            told.append(("meridian.replica_id", account.served.replica_id))
    failed = done.outcome == "upstream_error" or done.status >= 500
    if failed:
        told.append(("error.type", done.outcome))
    name = f"{REALTIME.name} {done.inquiry.route.deployment}"
    return EndedSpan(span, name, ended_at - duration_s, ended_at, failed, tuple(told))
