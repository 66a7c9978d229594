"""What is measured of a deployment, to say beforehand how long a request will wait."""

import msgspec

_SHARE = 0.1  # of a new measurement in the mean, at least
_START_SHARE = 0.5
_TRUSTED_COUNT = 4  # what was learned before weighs as much as so many measurements


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a deployment until ``measured_at``, in seconds since 1970; ``None`` = nothing was.

    request_s, start_s: how long a request takes, and a replica's start; output_tokens: of a request. Means.
    """

    measured_at: float
    request_s: float | None = None
    output_tokens: float | None = None
    start_s: float | None = None


class Service:
    """How long requests take and how long a replica takes to start. Times in seconds, monotonic.

    A process that has measured nothing yet goes by what an earlier one had ``learned``.
    """

    __slots__ = (
        "_count",
        "_has_news",
        "_measured_at",
        "_missing_since_s",
        "output_tokens_mean",
        "request_s_mean",
        "start_s_mean",
    )

    def __init__(self, learned: Learned | None = None) -> None:
        self._measured_at = 0.0 if learned is None else learned.measured_at
        self._has_news = False
        self._missing_since_s: float | None = None
        self.request_s_mean = None if learned is None else learned.request_s
        self.output_tokens_mean = None if learned is None else learned.output_tokens
        self.start_s_mean = None if learned is None else learned.start_s
        self._count = 0 if self.request_s_mean is None else _TRUSTED_COUNT

    def learned(self, now_at: float) -> Learned:
        """To be kept for a later process; what is new since the last call was measured by ``now_at``."""
        if self._has_news:
            self._has_news = False
            self._measured_at = now_at
        return Learned(
            measured_at=self._measured_at,
            request_s=self.request_s_mean,
            output_tokens=self.output_tokens_mean,
            start_s=self.start_s_mean,
        )

    def served(self, duration_s: float, output_tokens: int) -> None:
        """A request that a replica answered took so long there."""
        self._has_news = True
        self._count += 1
        share = max(_SHARE, 1.0 / self._count)
        self.request_s_mean = _moved(self.request_s_mean, duration_s, share)
        self.output_tokens_mean = _moved(self.output_tokens_mean, output_tokens, share)

    def missing(self, now_s: float) -> None:
        """A request waits, and no replica is ready."""
        if self._missing_since_s is None:
            self._missing_since_s = now_s

    def found(self, now_s: float) -> None:
        """A replica takes requests."""
        since_s, self._missing_since_s = self._missing_since_s, None
        if since_s is not None:
            self._has_news = True
            self.start_s_mean = _moved(self.start_s_mean, now_s - since_s, _START_SHARE)

    def given_up(self) -> None:
        """Nobody waits any more, so the start is not measured to its end."""
        self._missing_since_s = None

    def answer_s(self, output_tokens_max: float | None) -> float | None:
        """How long an answer takes until it is whole, of so many tokens at most; ``None`` = nothing is known."""
        request_s, usual = self.request_s_mean, self.output_tokens_mean
        if request_s is None or output_tokens_max is None or not usual or output_tokens_max >= usual:
            return request_s
        return request_s * output_tokens_max / usual

    def wait_s(self, ahead: int, seats: int, now_s: float, told_s: float | None = None) -> float | None:
        """Until a newcomer is sent that ``ahead`` others precede; ``None`` = nothing is known.

        ``seats``: what all ready replicas compute side by side; 0 = none is ready, or it is not known.
        ``told_s``: how long a request takes as others say, where nothing is measured here.
        """
        if seats > 0:
            request_s = told_s if self.request_s_mean is None else self.request_s_mean
            return None if request_s is None else (ahead + 1) * request_s / seats
        if self._missing_since_s is None or self.start_s_mean is None:
            return None
        return max(0.0, self.start_s_mean - (now_s - self._missing_since_s))


def _moved(mean: float | None, measured: float, share: float) -> float:
    return measured if mean is None else mean + share * (measured - mean)
