"""One request's wait for a replica: its place in the hold, its time, and its comments."""

from typing import TYPE_CHECKING

from workloadplane.gateway import errors
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.usage import RevisionTraffic

if TYPE_CHECKING:
    from workloadplane.gateway.attempt import Inquiry
    from workloadplane.gateway.context import GatewayContext
    from workloadplane.gateway.holding import Held

_NEVER_S = float("inf")


class Waiting:
    """One request's. It may wait several times; its time counts from the first."""

    __slots__ = ("_comment_at_s", "_context", "_held", "_traffic", "until_s")

    def __init__(self, context: "GatewayContext", inquiry: "Inquiry", held: "Held", now_s: float) -> None:
        interval_s = context.limits.hold_comment_interval_s
        self._context = context
        self._held = held
        self._traffic: RevisionTraffic | None = None
        self._comment_at_s = now_s + interval_s if inquiry.body.stream else _NEVER_S
        self.until_s = now_s + context.limits.hold_timeout_s

    @property
    def waits(self) -> bool:
        return self._traffic is not None

    def begin(self, inquiry: "Inquiry") -> Failure | None:
        """Wait from now on, or why that can't be."""
        context = self._context
        statement = inquiry.caller.statement
        if statement is not None and not statement.may_hold:
            return errors.not_ready_here()
        if not context.holding.can_hold(self._held.body_bytes):
            return errors.hold_full()
        self._traffic = context.waiting_traffic(inquiry.route)
        self._traffic.begin_waiting()
        context.holding.hold(inquiry.route.deployment_id, self._held)
        if self._traffic.waiting == 1:
            context.wake()  # further ones are in the next report
        return None

    def released(self) -> None:
        """The hold has let it go."""
        if self._traffic is not None:
            self._traffic.end_waiting()
            self._traffic = None

    def leave(self) -> None:
        """It waits no more, of its own."""
        if self._traffic is not None:
            self._context.holding.drop(self._traffic.deployment_id, self._held)
            self.released()

    def is_comment_due(self, now_s: float) -> bool:
        """Whether its client must hear something now; the next time is set."""
        if now_s < self._comment_at_s or self._traffic is None:
            return False
        self._comment_at_s = now_s + self._context.limits.hold_comment_interval_s
        return True
