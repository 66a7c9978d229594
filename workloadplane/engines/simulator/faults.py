"""Failure switches: how a simulated engine misbehaves, set at its start or while it runs.

Counts begin anew whenever the switches are set. Only who holds the engine's key may set them, and the route
is no inference route, so no gateway relays to it.
"""

import msgspec


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All off by default.

    hang:                      take connections and requests, answer nothing, give no more tokens
    slow_factor:               every step takes this many times as long
    unavailable_share:         this share of inference requests gets 503, evenly spread
    crash_after_tokens:        the process kills itself once it has given this many tokens
    stuck_stream_after_tokens: every answer stops after this many tokens and its connection stays open
    cut_stream_after_tokens:   every answer stops after this many tokens and its connection is closed
    """

    hang: bool = False
    slow_factor: float = 1.0
    unavailable_share: float = 0.0
    crash_after_tokens: int | None = None
    stuck_stream_after_tokens: int | None = None
    cut_stream_after_tokens: int | None = None

    def __post_init__(self) -> None:
        if not 0.01 <= self.slow_factor <= 10_000:
            raise ValueError(f"slow_factor: {self.slow_factor} is not in 0.01 ... 10000")
        if not 0.0 <= self.unavailable_share <= 1.0:
            raise ValueError(f"unavailable_share: {self.unavailable_share} is not in 0 ... 1")
        for name in ("crash_after_tokens", "stuck_stream_after_tokens", "cut_stream_after_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is less than 1; leave it out to switch it off")


def faults_from_json(raw: bytes | str) -> Faults:
    """Read switches. Raises ValueError with one line that names field and remedy."""
    try:
        return msgspec.json.decode(raw, type=Faults)
    except msgspec.DecodeError as error:
        raise ValueError(f"faults: {error}; known: {', '.join(Faults.__struct_fields__)}") from error
