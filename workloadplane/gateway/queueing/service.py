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
        if self.request_s_mean is None or self.output_tokens_mean is None:
            self.request_s_mean, self.output_tokens_mean = duration_s, float(output_tokens)
        else:
            self.request_s_mean += _SHARE * (duration_s - self.request_s_mean)
            self.output_tokens_mean += _SHARE * (output_tokens - self.output_tokens_mean)

    def missing(self, now_s: float) -> None:
        """A request waits, and no replica is ready."""
        if self._missing_since_s is None:
            self._missing_since_s = now_s

    def found(self, now_s: float) -> None:
        """A replica takes requests."""
        since_s, self._missing_since_s = self._missing_since_s, None
        if since_s is not None:
            took_s, mean_s = now_s - since_s, self.start_s_mean
            self.start_s_mean = took_s if mean_s is None else mean_s + _START_SHARE * (took_s - mean_s)

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
