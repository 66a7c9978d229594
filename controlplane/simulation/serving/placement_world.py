"""What a world says of its control plane: what it is to place, and when it is away."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.placement import Survivability
from controlplane.placement.search.improve import Effort

#: From a plan to the agents that follow it: they wait for it at the other end of a call.
COMMAND_S = 1.0
#: As ``controlplane.settings`` has its beat.
SEARCH_EVERY_S = 180.0


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


@dataclass(frozen=True, slots=True)
class Allowed:
    """From then on its project may spend so much an hour."""

    at_s: float
    usd_per_h: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """For a better plan, every so often (0: never), and at once where a plan has refused somebody or given up a wish.

    effort: counted work, so that the same world gives the same plans
    """

    every_s: float = SEARCH_EVERY_S
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Bounds come from placement.

    survivability: what is to survive
    stated:        requests per second that the owner has stated, by origin; planned for until usage is known for a day
    command_s:     from a plan to the agents that follow it
    budgets:       what its project may spend, in order of time; before the first one there is none
    """

    survivability: Survivability = "none"
    stated: Mapping[str, float] = field(default_factory=dict)
    command_s: float = COMMAND_S
    emptied: tuple[Emptied, ...] = ()
    budgets: tuple[Allowed, ...] = ()
    search: Search = field(default_factory=Search)
