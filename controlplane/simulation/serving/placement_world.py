"""What a world says of its control plane: what it is to place, and when it is away."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.placement import Survivability

#: From a plan to the agents that follow it: they wait for it at the other end of a call.
COMMAND_S = 1.0


@dataclass(frozen=True, slots=True)
class Emptied:
    """From then on a pool is being emptied, by an operator's drain."""

    region: str
    pool: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Away:
    """For so long nobody hears a control plane."""

    at_s: float
    back_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Bounds come from placement.

    survivability: what is to survive
    stated:        requests per second that the owner has stated, by origin; planned for until usage is known for a day
    command_s:     from a plan to the agents that follow it
    """

    survivability: Survivability = "none"
    stated: Mapping[str, float] = field(default_factory=dict)
    command_s: float = COMMAND_S
    emptied: tuple[Emptied, ...] = ()
