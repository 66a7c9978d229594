"""A finished request, written down: usage record, window, counters, access log. Nothing of what was said.

What is made for every request is given its members by position: by name it takes a microsecond or two each time.
"""

from typing import TYPE_CHECKING

import msgspec

from workloadplane.gateway.accesslog import AccessLine
from workloadplane.gateway.answer import AnswerWriter
from workloadplane.gateway.attempt import Inquiry
from workloadplane.gateway.entry import Entry
from workloadplane.gateway.heads import Served
from workloadplane.gateway.queueing.priority import NAMES
from workloadplane.gateway.resume.told import Told
from workloadplane.gateway.sse import SseScanner
from workloadplane.gateway.tracing import Attribute, EndedSpan, Span
from workloadplane.gateway.trail import PROVIDER, operation_of
from workloadplane.gateway.usage import Tally
from workloadplane.protocol.usage import UsageRecord
from workloadplane.routing import Reasons

if TYPE_CHECKING:
    from workloadplane.gateway.context import GatewayContext


class Finished(msgspec.Struct, frozen=True, gc=False):
    """How a request went. Times in seconds on the monotonic clock; ``ended_at`` since 1970.

    known_bytes: of its prompt, believed to be cached where it was sent last
    outcome:     ok | client_gone | upstream_error | refused
    """

    request_id: str
    inquiry: Inquiry
    answer: AnswerWriter
    entry: Entry
    status: int
    outcome: str
    served: Served | None
    span: Span | None
    reasons: Reasons
    attempts: int
    known_bytes: int
    sent_s: float | None
    ended_s: float
    ended_at: float


class Figures(msgspec.Struct, frozen=True, gc=False):
    """What it cost and how long it took."""

    input_tokens: int
    cached_tokens: int
    output_tokens: int
    audio_input_s: float
    input_characters: int
    queue_s: float
    ttft_s: float | None
    duration_s: float
    latency_s_mean: float | None
    latency_s_max: float | None


def settle(context: "GatewayContext", done: Finished) -> Figures:
    """Tell queue and limits what it has cost, for the next request goes by that; what is to be written down."""
    entry, figures = done.entry, _figures(done)
    if done.outcome == "client_gone" and done.sent_s is not None and not figures.input_tokens:
        entry.settle_untold(figures.output_tokens)
    else:
        served_s = _served_here_s(context, done)
        entry.settle(figures.input_tokens, figures.cached_tokens, figures.output_tokens, served_s)
    return figures


def record(context: "GatewayContext", done: Finished, figures: Figures) -> None:
    """Write it down. A request that a peer passed on is counted there, where its client was met."""
    inquiry, served = done.inquiry, done.served
    route, priority = inquiry.route, NAMES[done.entry.ticket.priority]
    key = (route.deployment_id, inquiry.route_class.name, priority, str(done.status), done.outcome)
    context.counters.requests[key] += 1
    if inquiry.caller.statement is None:
        if served is not None and served.revision_id:
            traffic = context.traffic.of(route.deployment_id, served.revision_id)
        else:
            traffic = context.waiting_traffic(route)
        _add_to_window(traffic.tally(priority), done, figures, done.answer.stream)
        context.spool.append_usage(_usage_record(context, done, figures, traffic.revision_id))
    if done.span is not None:
        context.tracer.end(_ended(done.span, done, figures))
    context.access_log.add(_access_line(done, figures, priority))


def _served_here_s(context: "GatewayContext", done: Finished) -> float | None:
    """How long a replica of this cluster took to answer, if it did so whole."""
    here = done.served is not None and done.served.cluster_id == context.registry.cluster_id
    if not here or done.outcome != "ok" or done.sent_s is None or done.entry.preemptions:
        return None
    return done.ended_s - done.sent_s


def _figures(done: Finished) -> Figures:
    answer, began_s, ended_s = done.answer, done.inquiry.request.began_s, done.ended_s
    stream = answer.stream
    counts = answer.counts()
    told = _told_to_one_who_left(done) if counts.input_tokens is None else None
    made = counts.output_tokens
    first_s, mean, gap_s_max = answer.first_byte_s, None, None
    if stream is not None:
        first_s, gap_s_max = stream.first_event_s, stream.gap_s_max
        if made is None:
            made = stream.token_events if told is None else told.tokens_sent
        if stream.token_events > 1 and first_s is not None:
            mean = ((stream.last_event_s or first_s) - first_s) / (stream.token_events - 1)
    sent_s, given = done.sent_s, counts.input_tokens
    if given is None and told is not None:
        given = told.prompt_tokens
    return Figures(
        given or 0,
        counts.cached_tokens or 0,
        made or 0,
        counts.audio_input_s or 0.0,
        done.inquiry.characters if answer.status == 200 else 0,
        (ended_s if sent_s is None else sent_s) - began_s,
        None if first_s is None or answer.status >= 400 else first_s - began_s,
        ended_s - began_s,
        mean,
        gap_s_max,
    )


def _told_to_one_who_left(done: Finished) -> Told | None:
    """What went out of a stream whose client left before its usage was told, if that was kept."""
    kept = done.answer.kept
    if kept is None or done.outcome != "client_gone":
        return None
    told = kept.told()
    return None if kept.overflowed else told


def _add_to_window(window: Tally, done: Finished, figures: Figures, stream: SseScanner | None) -> None:
    window.requests += 1
    if done.outcome == "upstream_error" or done.status >= 500:
        window.errors += 1
    window.input_tokens += figures.input_tokens
    window.cached_tokens += figures.cached_tokens
    window.output_tokens += figures.output_tokens
    window.duration.observe(figures.duration_s)
    window.queue.observe(figures.queue_s)
    if figures.ttft_s is not None:
        window.ttft.observe(figures.ttft_s)
    if stream is not None:
        window.inter_token_latency.add(stream.latency)


def _usage_record(
    context: "GatewayContext", done: Finished, figures: Figures, revision_id: str
) -> UsageRecord:
    """``revision_id``: of who served, or of who would have: a record without one cannot be booked."""
    header, spool = context.registry.header, context.spool
    served, inquiry = done.served, done.inquiry
    key = inquiry.caller.api_key
    return UsageRecord(
        spool.gateway_instance,
        spool.next_usage_sequence(),
        done.request_id,
        done.ended_at,
        key.project_id,
        key.api_key_id,
        inquiry.route.deployment_id,
        revision_id,
        served.revision if served else 0,
        served.replica_id if served else None,
        served.pool_id if served else None,
        served.cluster_id if served else None,
        header.region if header else "",
        "interactive",
        inquiry.route_class.name,
        done.status,
        done.outcome,
        figures.input_tokens,
        figures.cached_tokens,
        figures.output_tokens,
        figures.queue_s,
        figures.ttft_s,
        figures.duration_s,
        figures.latency_s_mean,
        figures.latency_s_max,
        figures.audio_input_s,
        figures.input_characters,
    )


def _access_line(done: Finished, figures: Figures, priority: str) -> AccessLine:
    served, inquiry, span, known_bytes = done.served, done.inquiry, done.span, done.known_bytes
    key = inquiry.caller.api_key
    return AccessLine(
        done.ended_at,
        done.request_id,
        inquiry.route_class.name,
        done.status,
        done.outcome,
        key.project_id,
        key.api_key_id,
        inquiry.route.deployment,
        served.replica_id if served is not None else None,
        served.region if served is not None else None,
        done.reasons,
        done.attempts,
        figures.queue_s,
        figures.ttft_s,
        figures.duration_s,
        figures.input_tokens,
        figures.output_tokens,
        None,  # no tunnel
        figures.cached_tokens,
        span.trace_id if span is not None else None,
        priority,
        inquiry.adapter,
        round(known_bytes / inquiry.prompt.size_bytes, 3) if known_bytes else 0.0,
        done.entry.broke,
        done.entry.preemptions,
    )


def _ended(span: Span, done: Finished, figures: Figures) -> EndedSpan:
    """Named by OpenTelemetry's GenAI conventions where they have a word for it."""
    operation = operation_of(done.inquiry.route_class.name)
    told: list[tuple[str, Attribute]] = [
        ("gen_ai.operation.name", operation),
        PROVIDER,
        ("gen_ai.request.model", done.inquiry.route.deployment),
        ("gen_ai.response.model", done.inquiry.route.model),
        ("gen_ai.usage.input_tokens", figures.input_tokens),
        ("gen_ai.usage.output_tokens", figures.output_tokens),
        ("gen_ai.usage.cache_read.input_tokens", figures.cached_tokens),
        ("http.response.status_code", done.status),
        ("meridian.request_id", done.request_id),
        ("meridian.outcome", done.outcome),
        ("meridian.attempts", done.attempts),
        ("meridian.queue_s", figures.queue_s),
    ]
    if figures.ttft_s is not None:
        told.append(("gen_ai.response.time_to_first_chunk", figures.ttft_s))
    failed = done.outcome == "upstream_error" or done.status >= 500
    if failed:
        told.append(("error.type", str(done.status)))
    if done.served is not None:
        told += [("meridian.region", done.served.region), ("meridian.cluster_id", done.served.cluster_id)]
        if done.served.replica_id is not None:
            told.append(("meridian.replica_id", done.served.replica_id))
    return EndedSpan(
        span,
        f"{operation} {done.inquiry.route.deployment}",
        done.ended_at - figures.duration_s,
        done.ended_at,
        failed,
        tuple(told),
    )
