"""Spans as OpenTelemetry's protobuf, posted to a collector. Blocking: for a thread of its own."""

import urllib.error
import urllib.request
from collections.abc import Mapping

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from workloadplane.gateway.tracing import Attribute, EndedSpan

_SEND_TIMEOUT_S = 5.0


def send(
    url: str, headers: Mapping[str, str], resource: tuple[tuple[str, Attribute], ...], batch: list[EndedSpan]
) -> bool:
    """One POST; whether the collector took it. ``resource``: who sends."""
    body = _encode(_attributes(resource), batch)
    request = urllib.request.Request(  # noqa: S310  the operator's own URL, its scheme checked at the start
        url, data=body, headers=dict(headers)
    )
    try:
        with urllib.request.urlopen(request, timeout=_SEND_TIMEOUT_S) as answer:  # noqa: S310
            answer.read(65536)
    except (OSError, ValueError, urllib.error.URLError):
        return False
    return True


def _encode(resource: list[KeyValue], batch: list[EndedSpan]) -> bytes:
    """The spans as an OTLP export request."""
    asked = ExportTraceServiceRequest()
    spans = ResourceSpans()
    spans.resource.attributes.extend(resource)
    scope = ScopeSpans()
    scope.scope.name = "meridian.gateway"
    scope.spans.extend(_wire(ended) for ended in batch)
    spans.scope_spans.append(scope)
    asked.resource_spans.append(spans)
    return bytes(asked.SerializeToString())


def _wire(ended: EndedSpan) -> WireSpan:
    span = ended.span
    return WireSpan(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_id),
        trace_state=span.state,
        name=ended.name,
        kind=WireSpan.SPAN_KIND_CLIENT if ended.is_call else WireSpan.SPAN_KIND_SERVER,
        start_time_unix_nano=int(ended.began_at * 1e9),
        end_time_unix_nano=int(ended.ended_at * 1e9),
        attributes=_attributes(ended.attributes),
        events=[
            WireSpan.Event(name=event.name, time_unix_nano=int(event.at * 1e9)) for event in ended.events
        ],
        status=Status(code=Status.STATUS_CODE_ERROR if ended.failed else Status.STATUS_CODE_UNSET),
    )


def _attributes(pairs: tuple[tuple[str, Attribute], ...]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in pairs]


def _value(value: Attribute) -> AnyValue:
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(string_value=value)
