"""How fast a revision's replicas compute prompts, as gateways measure it and tell it to one another."""

#: Of shorter ones the time is not the prompt's.
_PROMPT_BYTES_MIN = 4096
_HOLDS_S = 120.0
_KEEPS = 0.9  # of what was measured before, with each measurement


class PrefillSpeed:
    """Of one revision."""

    __slots__ = ("_at_s", "_seconds", "_size_bytes")

    def __init__(self) -> None:
        self._size_bytes = 0.0
        self._seconds = 0.0
        self._at_s = 0.0

    def computed(self, anew_bytes: int, took_s: float, now_s: float) -> None:
        """So much of a prompt, that no cache held, was computed until the first token came."""
        if anew_bytes < _PROMPT_BYTES_MIN or took_s <= 0.0:
            return
        self._size_bytes = _KEEPS * self._size_bytes + anew_bytes
        self._seconds = _KEEPS * self._seconds + took_s
        self._at_s = now_s

    def is_old(self, now_s: float) -> bool:
        """Whether it was not measured lately: what was measured is to be forgotten, so that it is measured again."""
        return now_s - self._at_s > _HOLDS_S

    @property
    def bytes_per_s(self) -> float:
        """0 = not measured."""
        return self._size_bytes / self._seconds if self._seconds else 0.0
