"""How often may requests be sent again? A share of what is sent anyway, so that retries never make an outage worse."""

_SHARE = 0.1
_RESERVE = 100.0
_RESERVE_PER_S = 1.0
_MOST = 1_000.0


class RetryBudget:
    """A bucket of retries: every request puts a tenth of one in, every retry takes one out. Single owner.

    It holds a reserve at first and fills up to that by itself, slowly: so a deployment with little traffic can
    retry too, and one whose replica dies can move all that ran there. Times in seconds.
    """

    __slots__ = ("_at_s", "_retries")

    def __init__(self, now_s: float) -> None:
        self._retries = _RESERVE
        self._at_s = now_s

    def request(self) -> None:
        """One more request was taken."""
        if self._retries < _MOST:
            self._retries += _SHARE

    def retry(self, now_s: float) -> bool:
        """Take one retry out; False if none is left."""
        if self._retries < _RESERVE:
            more = _RESERVE_PER_S * max(0.0, now_s - self._at_s)
            self._retries = min(_RESERVE, self._retries + more)
        self._at_s = now_s
        if self._retries < 1.0:
            return False
        self._retries -= 1.0
        return True
