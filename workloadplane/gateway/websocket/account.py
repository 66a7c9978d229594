"""What a session used, written down as it comes: a record for each response once it is over, so that a gateway that
is killed has lost the last moment's and not the whole session's.

A response is what a request is elsewhere: it is a usage record, and counts in the window. A session that ends has one
more only for what was not written down by then: a response under way, whose tokens nobody has told, or that there was
no response at all. Latency histograms are about answers, and stay without sessions.
"""

import time
from collections.abc import Iterable
from time import monotonic

from workloadplane.gateway.attempt import Inquiry
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.heads import Served
from workloadplane.gateway.queueing.priority import NAMES
from workloadplane.gateway.routes import REALTIME
from workloadplane.gateway.websocket.replies import NOTHING, Cost
from workloadplane.protocol.usage import UsageRecord

_SWITCHED = 101
_GOOD_ENDS = frozenset({"ok", "client_gone"})


class Account:
    """One session's. A session that a peer passed on is counted there, where its client was met.

    served: who serves it; ``spent``: the sum of its responses; ``sent_s``: when a handshake was first sent
    """

    __slots__ = (
        "_context",
        "_is_first",
        "_since_s",
        "attempts",
        "began_s",
        "request_id",
        "sent_s",
        "served",
        "spent",
    )

    def __init__(self, context: GatewayContext, request_id: str, began_s: float) -> None:
        self._context = context
        self.request_id = request_id
        self.began_s = self._since_s = began_s
        self._is_first = True
        self.attempts = 0
        self.sent_s: float | None = None
        self.served: Served | None = None
        self.spent = NOTHING

    @property
    def queue_s(self) -> float:
        """How long it took until a handshake was sent, or has taken by now."""
        return (monotonic() if self.sent_s is None else self.sent_s) - self.began_s

    def response_begins(self, now_s: float) -> None:
        """The engine makes one from now on (monotonic)."""
        self._since_s = now_s

    def responses_end(self, inquiry: Inquiry, costs: Iterable[Cost], now_s: float) -> None:
        """These are over."""
        for cost in costs:
            self.spent += cost
            self._write(inquiry, cost, _SWITCHED, "ok", now_s)

    def close(self, inquiry: Inquiry, status: int, outcome: str, *, in_response: bool) -> None:
        """The session is over. ``in_response``: a response was under way."""
        if self._is_first or in_response or outcome not in _GOOD_ENDS:
            self._write(inquiry, NOTHING, status, outcome, monotonic())

    def _write(self, inquiry: Inquiry, cost: Cost, status: int, outcome: str, now_s: float) -> None:
        queue_s = self.queue_s if self._is_first else 0.0
        duration_s = now_s - self._since_s
        self._is_first = False
        self._since_s = now_s
        if inquiry.caller.statement is not None:
            return
        context, served, route = self._context, self.served, inquiry.route
        if served is not None and served.revision_id:
            traffic = context.traffic.of(route.deployment_id, served.revision_id)
        else:
            traffic = context.waiting_traffic(route)
        window = traffic.tally(NAMES[inquiry.wish.priority])
        window.requests += 1
        window.errors += outcome == "upstream_error" or status >= 500
        window.input_tokens += cost.input_tokens
        window.cached_tokens += cost.cached_tokens
        window.output_tokens += cost.output_tokens
        header = context.registry.header
        context.spool.append_usage(
            UsageRecord(
                gateway_instance=context.spool.gateway_instance,
                sequence=context.spool.next_usage_sequence(),
                request_id=self.request_id,
                finished_at=time.time(),
                project_id=inquiry.caller.api_key.project_id,
                api_key_id=inquiry.caller.api_key.api_key_id,
                deployment_id=route.deployment_id,
                revision_id=traffic.revision_id,
                revision=served.revision if served else 0,
                replica_id=served.replica_id if served else None,
                pool_id=served.pool_id if served else None,
                served_cluster_id=served.cluster_id if served else None,
                origin=header.region if header else "",
                request_class="interactive",
                route=REALTIME.name,
                status=status,
                outcome=outcome,
                input_tokens=cost.input_tokens,
                cached_tokens=cost.cached_tokens,
                output_tokens=cost.output_tokens,
                queue_s=queue_s,
                ttft_s=None,
                duration_s=duration_s,
                inter_token_latency_s_mean=None,
                inter_token_latency_s_max=None,
                audio_input_s=cost.audio_input_s,
            )
        )
