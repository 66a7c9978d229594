"""What the blend weighs how, and what it knows: the policy's numbers, what is believed of each market, what is held."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.procurement.door import Door, DoorPolicy
from controlplane.procurement.market import NOTHING, Holdings, Market
from controlplane.procurement.rates import FadingRate, FadingShare

SPOT_DOOR = DoorPolicy(first_s=3600.0, most_s=43_200.0, window_most=2)
#: On demand is short for minutes, not for hours.
ON_DEMAND_DOOR = DoorPolicy(first_s=30.0, most_s=600.0, window_most=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendPolicy:
    """What the blend weighs how.

    floor:          instances on demand that are always held: what the SLO must not lose to spot
    extra_most:     never more extra instances than these
    short_worth:    an hour in which fewer serve than are wanted costs so many hours of all of them on demand
    replace_s:      from a loss until its replacement serves
    extra_hold_s:   extra instances leave when they have not been worth their price for so long
    hold_s:         spot must have been ready for so long before on-demand instances leave for it
    interruption_h: an expected loss costs so many hours of the instance's price, as in placement's weights ...
    spread_h:       ... and so many more for each other instance in the same domain
    refusal_h:      a launch that is refused costs so many hours of the price, as in placement's weights
    held_refusal_share: where an instance is held more are likely to be had: a refusal counts as so much less likely
    unproven_most:  so many launches at once, and not more, where nothing is held
    move_share:     a running spot instance is moved where another market is cheaper by this share; None: never
    rest_s, rest_power: a market that has refused rests so long after it is open again where nothing is lacking; where a
                    share of what is wanted is (on demand stands in for it), for (1 - share) ** rest_power of that, and
                    of what it is closed beyond the first time
    prior_per_h, prior_h, half_life_h: of the hazard of a domain
    obtained_prior, obtained_trials, obtained_half_life_h: of the share of its launches that succeed
    spot, on_demand: when markets are asked again
    """

    floor: int = 0
    extra_most: int = 3
    short_worth: float = 170.0
    replace_s: float = 300.0
    extra_hold_s: float = 14_400.0
    hold_s: float = 120.0
    interruption_h: float = 4.0
    spread_h: float = 0.2
    refusal_h: float = 1.0
    held_refusal_share: float = 0.3
    unproven_most: int = 1
    move_share: float | None = 0.02
    rest_s: float = 64_800.0
    rest_power: float = 8.0
    prior_per_h: float = 0.02
    prior_h: float = 3.0
    half_life_h: float = 168.0
    obtained_prior: float = 0.6
    obtained_trials: float = 2.0
    obtained_half_life_h: float = 48.0
    spot: DoorPolicy = SPOT_DOOR
    on_demand: DoorPolicy = ON_DEMAND_DOOR

    def __post_init__(self) -> None:
        for name in (
            *("floor", "extra_most", "short_worth", "replace_s", "extra_hold_s", "hold_s"),
            *("interruption_h", "spread_h", "refusal_h", "rest_s"),
        ):
            value = getattr(self, name)
            if not value >= 0:
                raise ValueError(f"{name} is {value}; give 0 or more")
        if self.move_share is not None and not self.move_share > 0:
            raise ValueError(f"move_share is {self.move_share}; give a share above 0, or None")


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """What is known of one market. ``together``: instances at the last loss's begin, and when that was."""

    market: Market
    hazard: FadingRate
    obtained: FadingShare
    spot: Door
    on_demand: Door
    together: tuple[int, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendState:
    """``extra``: more than wanted, at the price of spot and at that of on demand, kept since ``extra_at_s``."""

    holdings: Holdings = NOTHING
    domains: Mapping[str, Domain] = field(default_factory=dict)
    extra: tuple[int, int] = (0, 0)
    extra_at_s: float = 0.0
    watched_s: float | None = None
