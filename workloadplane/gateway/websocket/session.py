"""One WebSocket session's life.

::

    (opening ->) choosing -> connecting -> shaking hands -> tunnel -> over
                    |  ^__________|______________|      (before the engine's 101: another replica, or held)
                    v  |
                   waits

Where the handshake names the model, the client's handshake is the engine's: key, subprotocols and extensions go
there, the 101 comes from there. Where it does not, we answer it ourselves (offering nothing), read the model out
of the first message and then shake hands with the engine alone.
"""

from time import monotonic

from workloadplane.gateway import errors, heads
from workloadplane.gateway.admission import Caller
from workloadplane.gateway.attempt import Attempt
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.dialects import request_id_lines
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.heads import Served
from workloadplane.gateway.reader import Request
from workloadplane.gateway.routes import REALTIME
from workloadplane.gateway.server import ClientConnection
from workloadplane.gateway.upstream import ResponseHead
from workloadplane.gateway.websocket.account import Account
from workloadplane.gateway.websocket.choosing import Choosing, Queued, Shake, Step
from workloadplane.gateway.websocket.frames import (
    INTERNAL,
    POLICY,
    TRY_LATER,
    FrameError,
    close_frame,
)
from workloadplane.gateway.websocket.handshake import (
    Upgrade,
    answer_head,
    is_sound_answer,
)
from workloadplane.gateway.websocket.opening import BYTES_MAX as OPENING_BYTES_MAX
from workloadplane.gateway.websocket.opening import Opening
from workloadplane.gateway.websocket.record import Ended, record
from workloadplane.gateway.websocket.replies import Cost
from workloadplane.gateway.websocket.seat import is_leaving
from workloadplane.gateway.websocket.shaking import Shaking
from workloadplane.gateway.websocket.tunnel import Tunnel

_NEVER_S = float("inf")


class WebSocketSession:
    """See the module. Its callbacks come from the client's and the engine's socket and the process's sweep."""

    def __init__(
        self,
        context: GatewayContext,
        connection: ClientConnection,
        request: Request,
        upgrade: Upgrade,
        caller: Caller,
    ) -> None:
        self._context = context
        self._connection = connection
        self._request = request
        self._upgrade = upgrade
        self._caller = caller
        statement = caller.statement
        given = heads.acceptable_request_id(request.headers.get(b"x-request-id"))
        self.request_id = statement.request_id if statement else given or context.next_request_id()
        self._span = context.tracer.begin(request)
        self._choosing = Choosing(context, request, upgrade, caller, self.request_id)
        self._opening: Opening | None = None
        self._early = b""
        self._account = Account(context, self.request_id, request.began_s)
        self._answered = False
        self._shaking = Shaking(context, self)
        self._tunnel: Tunnel | None = None
        self._deadline_s = _NEVER_S
        self._done = False

    def start(self) -> None:
        context = self._context
        self._connection.attach(self)
        refused = context.websockets.enter(self, self._caller.api_key.project_id)
        if refused is not None:
            self._fail(refused)
            return
        if self._upgrade.model is not None:
            self._proceed(self._choosing.begin(self._upgrade.model, self))
            return
        lines = request_id_lines(self._request, self.request_id)
        self._opening = Opening()
        self._deadline_s = monotonic() + context.limits.header_timeout_s
        self._connection.write(answer_head(self._upgrade, None, None, lines))
        self._answered = True
        early = self._connection.begin_tunnel(self)
        if early:
            self.on_client_data(early)

    def _proceed(self, step: Step) -> None:
        if isinstance(step, Shake):
            self._account.attempts += 1
            self._shaking.begin(step.attempt, step.expected_accept)
        elif isinstance(step, Queued):
            self._deadline_s = step.until_s
        else:
            self._fail(step)

    # The queue's calls

    @property
    def bound_to(self) -> str:
        """A replica takes so many sessions, whatever seats it has."""
        return "sessions"

    def take_turn(self) -> bool:
        """It waits and is the next: go, if there is anywhere to go now. Whether it waits no more."""
        step = self._choosing.turn()
        if step is not None:
            self._proceed(step)
        entry = self._choosing.entry
        return entry is None or not entry.waits

    def spill(self) -> bool:
        """It waits at the line's end: go to another region if that is sooner. Whether it waits no more."""
        step = self._choosing.spill()
        if step is not None:
            self._proceed(step)
        entry = self._choosing.entry
        return entry is None or not entry.waits

    def displace(self, retry_after_s: int) -> None:
        """It waited and had to make room."""
        if self._choosing.entry is not None:
            self._choosing.entry.displaced()
        self._fail(errors.displaced(retry_after_s))

    # Connecting and shaking hands

    def on_sent(self, attempt: Attempt) -> None:
        now_s = monotonic()
        if self._account.sent_s is None:
            self._account.sent_s = now_s
        patience_s = self._context.limits.hold_timeout_s if attempt.may_hold else 0.0
        self._deadline_s = now_s + self._context.limits.header_timeout_s + patience_s

    def _end_attempt(self) -> None:
        self._shaking.end(abort=self._tunnel is None)
        self._deadline_s = _NEVER_S

    def on_attempt_lost(self, failure: Failure, cause: str) -> None:
        attempt = self._shaking.attempt
        self._end_attempt()
        if attempt is not None:
            self._proceed(self._choosing.after_loss(attempt, failure, cause))

    def on_upgraded(self, headers: dict[bytes, bytes], early: bytes) -> None:
        attempt, engine = self._shaking.attempt, self._shaking.engine
        if attempt is None or engine is None:
            return
        if not is_sound_answer(self._upgrade, headers, self._shaking.expected_accept):
            self.on_attempt_lost(errors.upstream_invalid(), "reset")
            return
        attempt.answered = True
        if attempt.peer is not None:
            attempt.served = heads.served_by_peer(
                ResponseHead(101, list(headers.items())), attempt.peer.cluster_id, attempt.peer.region
            )
        self._account.served = attempt.served
        self._deadline_s = _NEVER_S
        limits = self._context.limits
        extensions = headers.get(b"sec-websocket-extensions")
        self._tunnel = tunnel = Tunnel(
            self._connection,
            engine,
            extensions=extensions,
            message_bytes_max=limits.websocket_message_bytes_max,
            idle_timeout_s=limits.websocket_idle_timeout_s,
            stall_timeout_s=limits.client_stall_timeout_s,
            on_over=self._on_over,
        )
        if self._answered:
            sent = self._early
            self._early = b""
            self._connection.resume()
        else:
            lines = self._lines(attempt.served)
            protocol = headers.get(b"sec-websocket-protocol")
            self._connection.write(answer_head(self._upgrade, protocol, extensions, lines))
            self._answered = True
            sent = self._connection.begin_tunnel(self)
        self._keep_seat()
        if early:
            self.on_engine_data(early)
        if sent:
            tunnel.client_data(sent)

    def _lines(self, served: Served) -> bytes:
        """Header lines of an answer of the engine's: the request's id, who serves, what is left of its limits."""
        lines = request_id_lines(self._request, self.request_id)
        lines += heads.served_lines(served, to_peer=self._caller.statement is not None)
        entry = self._choosing.entry
        return lines + (entry.headers if entry is not None else b"")

    def on_declined(self, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
        """The engine, or the peer's gateway, does not switch."""
        attempt = self._shaking.attempt
        if attempt is None:
            return
        self._end_attempt()
        step = self._choosing.after_refusal(attempt, status, headers)
        if step is not None:
            self._proceed(step)
            return
        self._account.served = attempt.served
        if self._answered or status < 400:
            self._fail(errors.websocket_declined(status))
            return
        kind = headers.get(b"content-type", b"application/json")
        head = b"content-type: %s\r\n" % kind + self._lines(attempt.served)
        self._connection.respond(status, head, body)
        self._close("refused" if status < 500 else "upstream_error", status)

    # What the engine's socket brings

    def on_engine_data(self, data: bytes) -> None:
        tunnel = self._tunnel
        if tunnel is None:
            return
        replies = tunnel.replies
        was_running = replies.running
        tunnel.engine_data(data)
        ended = replies.take_ended()
        if ended:
            self._settle(ended)
        if replies.running and (ended or not was_running):
            self._account.response_begins(monotonic())
        self._keep_seat()

    def _keep_seat(self) -> None:
        """While a response is made the session is a request like others; between responses it is none."""
        tunnel, seat = self._tunnel, self._shaking.seat
        if tunnel is None or seat is None:
            return
        if not tunnel.is_busy(monotonic()):
            seat.leave()
        else:
            seat.take()

    def _settle(self, responses: list[Cost]) -> None:
        """These are over: charge what they cost and write it down."""
        inquiry, entry = self._choosing.inquiry, self._choosing.entry
        if inquiry is None or entry is None:
            return
        for cost in responses:
            entry.spend(cost.input_tokens, cost.cached_tokens, cost.output_tokens)
        self._account.responses_end(inquiry, responses, monotonic())

    def on_engine_eof(self) -> None:
        if self._tunnel is not None:
            self._tunnel.engine_eof()

    def on_engine_lost(self) -> None:
        if self._tunnel is not None:
            self._tunnel.engine_gone()
        else:
            self.on_attempt_lost(errors.upstream_unreachable(), "reset")

    def on_engine_full(self) -> None:
        if self._tunnel is not None:
            self._tunnel.engine_full(full=True)

    def on_engine_ready(self) -> None:
        if self._tunnel is not None:
            self._tunnel.engine_full(full=False)

    # What the client's socket brings

    def on_client_data(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.client_data(data)
        elif self._opening is not None:
            self._read_opening(self._opening, data)
        else:
            self._early += data
            if len(self._early) > OPENING_BYTES_MAX:
                self._connection.pause()  # until then its leaving is seen

    def _read_opening(self, opening: Opening, data: bytes) -> None:
        try:
            model = opening.feed(data)
        except FrameError as error:
            self._close_answered(error.code, error.reason)
            self._close("refused", 400)
            return
        if model is None:
            return
        self._opening = None
        self._early = bytes(opening.data)
        self._deadline_s = _NEVER_S
        self._proceed(self._choosing.begin(model, self))

    def on_client_eof(self) -> None:
        """Before the tunnel there is nothing to wait for, and nothing that could be sent to find out."""
        if self._tunnel is None:
            self._connection.abort()

    def on_tunnel_eof(self) -> None:
        if self._tunnel is not None:
            self._tunnel.client_eof()
        else:
            self._connection.abort()

    def on_client_gone(self) -> None:
        if self._tunnel is not None:
            self._tunnel.client_gone()
        else:
            self._close("client_gone", 499)

    def on_client_full(self) -> None:
        if self._tunnel is not None:
            self._tunnel.client_full(full=True)

    def on_client_ready(self) -> None:
        if self._tunnel is not None:
            self._tunnel.client_full(full=False)

    # The process's calls

    def on_sweep(self, now_s: float, *, draining: bool) -> None:
        """Keep the time limits; called every half second or so."""
        if self._tunnel is not None:
            if self._choosing.is_revoked:
                self._tunnel.end(POLICY, "the API key was revoked or has expired")
            leaves = is_leaving(self._context, self._shaking.attempt)
            self._tunnel.on_sweep(now_s, draining=draining or leaves)
            self._keep_seat()
        elif now_s > self._deadline_s:
            limits = self._context.limits
            entry = self._choosing.entry
            if entry is not None and entry.waits:
                self._fail(errors.hold_expired(limits.hold_timeout_s))
            elif self._opening is not None:
                self._close_answered(POLICY, "no message named a model in time; name it as ?model=")
                self._close("refused", 408)
            else:
                self.on_attempt_lost(errors.upstream_timeout(limits.header_timeout_s), "reset")

    def on_drain_over(self) -> None:
        """The process's time is over: end honestly."""
        if self._tunnel is not None:
            self._tunnel.drain_over()
        else:
            self._fail(errors.shutting_down())

    def abort(self) -> None:
        """Whatever comes of it: its client's connection ends, and the session with it."""
        self._connection.abort()

    # Ends

    def _fail(self, failure: Failure) -> None:
        if self._done:
            return
        self._end_attempt()
        if not self._answered:
            self._connection.fail(failure, self.request_id)
        elif failure.retry_after_s is not None:
            self._close_answered(TRY_LATER, failure.code)
        else:
            self._close_answered(POLICY if failure.status < 500 else INTERNAL, failure.code)
        self._close("refused" if failure.status < 500 else "upstream_error", failure.status)

    def _close_answered(self, code: int, reason: str) -> None:
        """The client has its 101 already: what would be an answer becomes a Close frame."""
        self._connection.write(close_frame(code, reason, masked=False))
        self._connection.end_tunnel()

    def _on_over(self, outcome: str) -> None:
        self._close(outcome, 101)

    def _close(self, outcome: str, status: int) -> None:
        if self._done:
            return
        self._done = True
        inquiry, entry = self._choosing.inquiry, self._choosing.entry
        if entry is not None:
            entry.leave()
        self._end_attempt()
        self._context.websockets.leave(self)
        if inquiry is None or entry is None:
            self._context.counters.requests["", REALTIME.name, "", str(status), outcome] += 1
            return
        entry.settle(0, 0, 0, None)
        tunnel = self._tunnel
        in_response = tunnel is not None and tunnel.replies.running
        self._account.close(inquiry, status, outcome, in_response=in_response)
        record(
            self._context,
            Ended(
                inquiry=inquiry,
                status=status,
                outcome=outcome,
                span=self._span,
                reasons=self._choosing.reasons,
                account=self._account,
                tunnel=tunnel,
            ),
        )
