"""How much time is left, if time is limited at all."""

from collections.abc import Callable
from dataclasses import dataclass

#: What is left where nothing limits it.
_ENDLESS_S = 1e6


@dataclass(frozen=True, slots=True)
class Clock:
    """``left_s`` gives the seconds that are left of the whole (None: no limit); this part ends at ``end_s`` of them."""

    left_s: Callable[[], float] | None
    end_s: float = 0.0

    @property
    def seconds(self) -> float:
        return _ENDLESS_S if self.left_s is None else max(0.0, self.left_s() - self.end_s)

    def part(self, share: float) -> "Clock":
        """A share of what is left, from now on."""
        return Clock(self.left_s, 0.0 if self.left_s is None else self.left_s() - share * self.seconds)

    def late(self) -> bool:
        return self.seconds <= 0
