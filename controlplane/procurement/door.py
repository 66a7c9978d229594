"""When a market may be asked again, and for how many: exponential back-off, single probes, slow start.

A refusal, or a loss of what was had, closes a market's door; each refusal in a row keeps it closed twice as long, to a
bound. Once it is open again a single launch tries it: while that is not answered, no other. Each success doubles how
many may be asked at once. So a market that has nothing is asked seldom, and one that has some is asked for few in vain.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorPolicy:
    """Seconds, and launches at once. ``first_s``: closed after a first refusal; ``most_s``: never longer."""

    first_s: float = 300.0
    most_s: float = 7200.0
    window_most: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.most_s or self.window_most < 1:
            raise ValueError(
                f"first_s {self.first_s}, most_s {self.most_s}, window_most {self.window_most};"
                " give 0 < first_s <= most_s, and 1 or more at once"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """refusals: in a row; window: so many may be asked and not answered; closed_s, closed_until_s: none between."""

    refusals: int = 0
    window: int = 1
    closed_s: float = 0.0
    closed_until_s: float = 0.0

    def room(self, asked: int) -> int:
        """How many more may be asked for once it is open, where ``asked`` are not answered yet."""
        return max(0, self.window - asked)

    def opens_s(self, policy: DoorPolicy, patience: float) -> float:
        """When it is open again. Of the time beyond the first closing only the part ``patience`` counts."""
        beyond_s = max(0.0, self.closed_until_s - self.closed_s - policy.first_s)
        return self.closed_until_s - (1.0 - patience) * beyond_s

    def succeeded(self, policy: DoorPolicy) -> "Door":
        return replace(self, refusals=0, window=min(policy.window_most, self.window * 2))

    def refused(self, policy: DoorPolicy, now_s: float) -> "Door":
        """Refusals that come before it may have been asked again are of the same attempt: they count once."""
        if now_s < min(self.closed_until_s, self.closed_s + policy.first_s):
            return replace(self, window=1)
        wait_s = min(policy.most_s, policy.first_s * 2.0 ** min(self.refusals, 40))
        return Door(refusals=self.refusals + 1, window=1, closed_s=now_s, closed_until_s=now_s + wait_s)

    def lost(self, policy: DoorPolicy, now_s: float) -> "Door":
        """What was had is taken back: there is hardly more of it just now, as after a first refusal."""
        until_s = max(self.closed_until_s, now_s + policy.first_s)
        return Door(refusals=max(1, self.refusals), window=1, closed_s=now_s, closed_until_s=until_s)
