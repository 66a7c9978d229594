"""What is measured of a deployment, to say beforehand how long a request will wait."""

_SHARE = 0.1  # of a new measurement in the mean
_START_SHARE = 0.5


class Service:
    """How long requests take and how long a replica takes to start. Times in seconds, monotonic."""

    __slots__ = ("_missing_since_s", "output_tokens_mean", "request_s_mean", "start_s_mean")

    def __init__(self) -> None:
        self.output_tokens_mean: float | None = None
        self.request_s_mean: float | None = None
        self.start_s_mean: float | None = None
        self._missing_since_s: float | None = None

    def served(self, duration_s: float, output_tokens: int) -> None:
        """A request that a replica answered took so long there."""
        self.request_s_mean = _mean(self.request_s_mean, duration_s, _SHARE)
        self.output_tokens_mean = _mean(self.output_tokens_mean, output_tokens, _SHARE)

    def missing(self, now_s: float) -> None:
        """A request waits, and no replica is ready."""
        if self._missing_since_s is None:
            self._missing_since_s = now_s

    def found(self, now_s: float) -> None:
        """A replica takes requests."""
        since_s, self._missing_since_s = self._missing_since_s, None
        if since_s is not None:
            self.start_s_mean = _mean(self.start_s_mean, now_s - since_s, _START_SHARE)

    def given_up(self) -> None:
        """Nobody waits any more, so the start is not measured to its end."""
        self._missing_since_s = None

    def wait_s(self, ahead: int, seats: int, now_s: float) -> float | None:
        """Until a newcomer is sent that ``ahead`` others precede; ``None`` = nothing is known.

        ``seats``: what all ready replicas compute side by side; 0 = none is ready, or it is not known.
        """
        if seats > 0:
            return None if self.request_s_mean is None else (ahead + 1) * self.request_s_mean / seats
        if self._missing_since_s is None or self.start_s_mean is None:
            return None
        return max(0.0, self.start_s_mean - (now_s - self._missing_since_s))


def _mean(mean: float | None, value: float, share: float) -> float:
    return value if mean is None else mean + share * (value - mean)
