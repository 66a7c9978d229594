"""The sessions of one process: no more than it may have, nor than one project may have of them."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog

from workloadplane.gateway import errors
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.limits import Limits
from workloadplane.gateway.queueing.rate_limits import Limited

if TYPE_CHECKING:
    from workloadplane.gateway.websocket.session import WebSocketSession

_RETRY_AFTER_S = 1
_log = structlog.get_logger(__name__)


@contextlib.contextmanager
def _only(session: "WebSocketSession") -> Iterator[None]:
    """A fault of ours costs this session only; nothing of what was said is logged."""
    try:
        yield
    except Exception:
        _log.exception("session failed", request_id=session.request_id)
        session.abort()


class Sessions:
    """One per process. A session is in it from its handshake to its end, waiting or not."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._projects: dict[WebSocketSession, str] = {}
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._projects)

    def __iter__(self) -> "Iterator[WebSocketSession]":
        """Over those of this moment: they may end meanwhile."""
        return iter(tuple(self._projects))

    def enter(self, session: "WebSocketSession", project_id: str) -> Failure | None:
        """Count it from now on, or why that can't be."""
        if len(self) >= self._limits.websockets_max:
            return errors.too_many_connections()
        most = self._limits.websockets_per_project_max
        if self._of[project_id] >= most:
            return errors.rate_limited(Limited("concurrency", most, "project", _RETRY_AFTER_S, b""))
        self._projects[session] = project_id
        self._of[project_id] += 1
        return None

    def sweep(self, now_s: float, *, draining: bool) -> None:
        """Keep the time limits of all."""
        for session in self:
            with _only(session):
                session.on_sweep(now_s, draining=draining)

    def drain_over(self) -> None:
        """The process's time is over for all."""
        for session in self:
            with _only(session):
                session.on_drain_over()

    def leave(self, session: "WebSocketSession") -> None:
        """It has ended. One that never entered changes nothing."""
        project_id = self._projects.pop(session, None)
        if project_id is None:
            return
        self._of[project_id] -= 1
        if not self._of[project_id]:
            del self._of[project_id]
