"""The blend of on-demand and spot instances by which a wanted number is served.

- Spot first, in the zones where it costs least: price x (1 + hazard x what a loss costs + chance of a refusal x what
  that costs). A loss costs more where more stands already: one zone's capacity of a type is taken back together.
- Some more than wanted, as many as are worth their price (``cover``).
- On demand what spot lacks, and never fewer than the floor; it leaves when as much spot has been ready for a while.
- Markets that refuse, or take back, are left alone for longer and longer (``door``), and beyond that the longer the
  less of what is wanted is lacking; what is more than wanted, or would only be cheaper, waits until they have rested.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from controlplane.procurement.cover import cover
from controlplane.procurement.door import Door, DoorPolicy
from controlplane.procurement.market import (
    NOTHING,
    Action,
    Event,
    Held,
    Holdings,
    Launch,
    Lost,
    Market,
    NotObtained,
    Obtained,
    Priced,
    Stop,
    Wanted,
)
from controlplane.procurement.rates import S_PER_H, FadingRate, FadingShare

#: Losses in one domain that follow one another so closely are one: over 92 % of what is taken back of one type in one
#: zone goes within three minutes (arXiv:2604.16457, 2,635 interruptions on AWS and Azure).
TOGETHER_S = 180.0

SPOT_DOOR = DoorPolicy(first_s=1800.0, most_s=43_200.0, window_most=2)
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
                    share of what is wanted is, for (1 - share) ** rest_power of that
    prior_per_h, prior_h, half_life_h: of the hazard of a domain
    obtained_prior, obtained_trials, obtained_half_life_h: of the share of its launches that succeed
    spot, on_demand: when markets are asked again
    """

    floor: int = 0
    extra_most: int = 6
    short_worth: float = 60.0
    replace_s: float = 300.0
    extra_hold_s: float = 1800.0
    hold_s: float = 120.0
    interruption_h: float = 4.0
    spread_h: float = 0.1
    refusal_h: float = 0.25
    held_refusal_share: float = 0.3
    unproven_most: int = 1
    move_share: float | None = 0.5
    rest_s: float = 21_600.0
    rest_power: float = 2.0
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """The policy over these markets."""

    markets: tuple[Market, ...]
    policy: BlendPolicy = BlendPolicy()

    def start(self) -> BlendState:
        """Nothing is held, nothing has been seen."""
        return BlendState(domains={market.market_id: self._domain(market) for market in self.markets})

    def step(
        self, state: BlendState, event: Event, now_s: float
    ) -> tuple[BlendState, tuple[Action, ...], tuple[str, ...]]:
        """``Wanted`` is decided on; every other event is taken note of."""
        if isinstance(event, Wanted):
            return _Decision(self.policy, self._watched(state, now_s), event.instances, now_s).made()
        if isinstance(event, Priced):
            known = state.domains.get(event.market.market_id)
            domain = self._domain(event.market) if known is None else replace(known, market=event.market)
            return replace(state, domains={**state.domains, event.market.market_id: domain}), (), ()
        domains = dict(state.domains)
        if isinstance(event, Lost):
            row = state.holdings.held.get(event.instance_id)
            if row is not None and row.market_id in domains:
                domains[row.market_id] = self._after_loss(domains[row.market_id], row, state, now_s)
        elif isinstance(event, Obtained | NotObtained) and event.market_id in domains:
            domains[event.market_id] = self._after_answer(domains[event.market_id], event, now_s)
        return replace(state, domains=domains, holdings=state.holdings.after(event, now_s)), (), ()

    def hazard_per_h(self, state: BlendState, market_id: str, now_s: float) -> float:
        """What is believed now: expected losses of an instance there, per hour."""
        return state.domains[market_id].hazard.per_h(now_s)

    def _domain(self, market: Market) -> Domain:
        policy = self.policy
        hazard = FadingRate(
            prior_per_h=policy.prior_per_h, prior_h=policy.prior_h, half_life_h=policy.half_life_h
        )
        obtained = FadingShare(
            prior=policy.obtained_prior,
            prior_trials=policy.obtained_trials,
            half_life_h=policy.obtained_half_life_h,
        )
        on_demand = Door(window=policy.on_demand.window_most)
        return Domain(market=market, hazard=hazard, obtained=obtained, spot=Door(), on_demand=on_demand)

    def _watched(self, state: BlendState, now_s: float) -> BlendState:
        """Every domain in which something was held was watched since the last look."""
        since_s = now_s if state.watched_s is None else state.watched_s
        exposure_h = max(0.0, now_s - since_s) / S_PER_H
        if not exposure_h:
            return replace(state, watched_s=now_s)
        held = {row.market_id for row in state.holdings.rows("spot")} & state.domains.keys()
        domains = dict(state.domains)
        for market_id in held:
            domain = domains[market_id]
            domains[market_id] = replace(
                domain, hazard=domain.hazard.seen(now_s=now_s, exposure_h=exposure_h)
            )
        return replace(state, domains=domains, watched_s=now_s)

    def _after_loss(self, domain: Domain, row: Held, state: BlendState, now_s: float) -> Domain:
        """What goes together is one event, of which each instance is its share."""
        if row.rented != "spot":
            return domain
        together = domain.together
        if together is None or now_s - together[1] > TOGETHER_S:
            count = sum(other.market_id == row.market_id for other in state.holdings.rows("spot"))
            together = (count, now_s)
        return replace(
            domain,
            hazard=domain.hazard.seen(now_s=now_s, events=1.0 / together[0]),
            obtained=domain.obtained.seen(now_s=now_s, had=0.0, asked=1.0),
            spot=domain.spot.lost(self.policy.spot, now_s),
            together=together,
        )

    def _after_answer(self, domain: Domain, event: Obtained | NotObtained, now_s: float) -> Domain:
        had = isinstance(event, Obtained)
        if event.rented == "on_demand":
            policy, door = self.policy.on_demand, domain.on_demand
            return replace(domain, on_demand=door.succeeded(policy) if had else door.refused(policy, now_s))
        policy, door = self.policy.spot, domain.spot
        return replace(
            domain,
            spot=door.succeeded(policy) if had else door.refused(policy, now_s),
            obtained=domain.obtained.seen(now_s=now_s, had=float(had), asked=1.0),
        )


class _Decision:
    """One decision while it is made: what to launch and what to stop, and why."""

    def __init__(self, policy: BlendPolicy, state: BlendState, wanted: int, now_s: float) -> None:
        self.policy, self.state, self.wanted, self.now_s = policy, state, wanted, now_s
        self.spot = state.holdings.rows("spot")
        self.on_demand = state.holdings.rows("on_demand")
        self.counts: dict[str, int] = {}
        for row in self.spot:
            self.counts[row.market_id] = self.counts.get(row.market_id, 0) + 1
        self.hazards = {key: domain.hazard.per_h(now_s) for key, domain in state.domains.items()}
        self.actions: list[Action] = []
        self.reasons: list[str] = []

    def made(self) -> tuple[BlendState, tuple[Action, ...], tuple[str, ...]]:
        extra, extra_at_s = self._extra()
        spot_wanted = max(0, self.wanted + extra[0] - self.policy.floor)
        self._rent_spot(spot_wanted)
        self._leave_spot(spot_wanted)
        self._fall_back(self.wanted + extra[1])
        actions = tuple(self.actions)
        after = replace(
            self.state, holdings=self.state.holdings.done(actions), extra=extra, extra_at_s=extra_at_s
        )
        return after, actions, tuple(self.reasons)

    def _extra(self) -> tuple[tuple[int, int], float]:
        """How many more than wanted, at spot's price and at on demand's. More at once, fewer after the hold."""
        state, policy = self.state, self.policy
        on_demand = self._on_demand_price()
        if not self.wanted or on_demand is None:
            return (0, 0), self.now_s
        priced = (d for d in self.state.domains.values() if d.market.spot_micro_usd_per_h is not None)
        spot = min([on_demand, *(self._price(d, self.counts.get(d.market.market_id, 0)) for d in priced)])
        # Of what is held, the part that is wanted: what is held beyond that is no reason for still more.
        size = self.wanted / max(self.wanted, len(self.spot))
        domains = [
            (math.ceil(count * size), self.hazards.get(key, policy.prior_per_h))
            for key, count in self.counts.items()
        ]

        def at(price: float) -> int:
            return cover(
                domains=domains,
                replace_h=policy.replace_s / S_PER_H,
                short_usd_per_h=policy.short_worth * on_demand * self.wanted,
                extra_usd_per_h=price,
                most=policy.extra_most,
            )

        found = (at(spot), at(on_demand))
        if found == state.extra:
            return found, self.now_s
        if self.now_s - state.extra_at_s >= policy.extra_hold_s:
            return found, self.now_s
        kept = (max(found[0], state.extra[0]), max(found[1], state.extra[1]))
        return kept, self.now_s if kept != state.extra else state.extra_at_s

    def _rent_spot(self, spot_wanted: int) -> None:
        """What is missing, each where it costs least now; one to a much cheaper market where nothing is missing."""
        asked = {key: n for (key, rented), n in self.state.holdings.asked.items() if rented == "spot"}
        missing = spot_wanted - len(self.spot) - sum(asked.values())
        counts = {key: self.counts.get(key, 0) + asked.get(key, 0) for key in self.state.domains}
        lacking = missing - max(0, spot_wanted - max(0, self.wanted - self.policy.floor))
        for index in range(missing):
            share = max(0, lacking - index) / max(1, self.wanted)
            if not self._launch_cheapest(counts, asked, below=None, lacking_share=share):
                break
        if (
            missing == 0
            and not asked
            and self.policy.move_share is not None
            and len(self.spot) == spot_wanted
        ):
            dearest = max((self._worth(row) for row in self.spot if row.ready_s is not None), default=None)
            if dearest is not None:
                below = dearest / (1 + self.policy.move_share)
                self._launch_cheapest(counts, asked, below=below, lacking_share=0.0)

    def _launch_cheapest(
        self,
        counts: dict[str, int],
        asked: dict[str, int],
        *,
        below: float | None,
        lacking_share: float,
    ) -> bool:
        rest_s = self.policy.rest_s * (1 - lacking_share) ** self.policy.rest_power
        unproven = sum(count for key, count in asked.items() if not self.counts.get(key))
        found = min(
            (
                (price, key)
                for key, price in self._open_markets(counts, asked, rest_s=rest_s)
                if self.counts.get(key) or unproven < self.policy.unproven_most
            ),
            default=None,
        )
        if found is None or (below is not None and found[0] >= below):
            return False
        price, key = found
        counts[key] = counts.get(key, 0) + 1
        asked[key] = asked.get(key, 0) + 1
        self.actions.append(Launch(key, "spot"))
        why = "is missing" if below is None else "would cost less there"
        self.reasons.append(
            f"spot in {key}: one {why}, at {price / 1e6:.3f} USD/h with a hazard of"
            f" {self.hazards[key]:.3f} per hour"
        )
        return True

    def _open_markets(
        self, counts: Mapping[str, int], asked: Mapping[str, int], *, rest_s: float = 0.0
    ) -> Iterator[tuple[str, float]]:
        """Markets that may be asked for one more spot instance and are worth it, with what that costs in all.

        ``rest_s``: only those that have been open again for so long, if they have refused.
        """
        on_demand = self._on_demand_price()
        for key, domain in self.state.domains.items():
            if domain.market.spot_micro_usd_per_h is None:
                continue
            door = domain.spot
            if not door.room(asked.get(key, 0), self.now_s):
                continue
            if door.refusals and self.now_s < door.closed_until_s + rest_s:
                continue
            refused = 1 - domain.obtained.share(self.now_s)
            if counts.get(key, 0):
                refused *= self.policy.held_refusal_share
            price = self._price(domain, counts.get(key, 0)) + self.policy.refusal_h * refused * (
                domain.market.spot_micro_usd_per_h
            )
            if on_demand is None or price < on_demand:
                yield key, price

    def _price(self, domain: Domain, beside: int) -> float:
        """Spot's price and what its losses cost, beside so many others of the same domain."""
        hazard_per_h = self.hazards[domain.market.market_id]
        loss_h = self.policy.interruption_h + self.policy.spread_h * beside
        return (domain.market.spot_micro_usd_per_h or 0) * (1 + hazard_per_h * loss_h)

    def _worth(self, row: Held) -> float:
        domain = self.state.domains.get(row.market_id)
        if domain is None or domain.market.spot_micro_usd_per_h is None:
            return float("inf")
        return self._price(domain, self.counts[row.market_id] - 1)

    def _leave_spot(self, spot_wanted: int) -> None:
        """What is ready beyond what is wanted, the dearest first."""
        ready = [row for row in self.spot if row.ready_s is not None]
        for _ in range(len(ready) - spot_wanted):
            row = max(ready, key=lambda one: (self._worth(one), one.since_s))
            ready.remove(row)
            self.counts[row.market_id] -= 1
            self.actions.append(Stop(row.instance_id))
            self.reasons.append(f"spot in {row.market_id}: one more is ready than is wanted")

    def _fall_back(self, needed: int) -> None:
        """On demand: what spot lacks, and the floor. It leaves when spot has been ready for ``hold_s``."""
        floor = self.policy.floor
        asked = self.state.holdings.asked_of("on_demand")
        stopped = {action.instance_id for action in self.actions if isinstance(action, Stop)}
        spot = [row for row in self.spot if row.instance_id not in stopped]
        lacking = max(floor, needed - len(spot)) - len(self.on_demand) - asked
        if lacking > 0:
            self._rent_on_demand(lacking)
            return
        settled = sum(
            row.ready_s is not None and self.now_s - row.ready_s >= self.policy.hold_s for row in spot
        )
        surplus = len(self.on_demand) - max(floor, needed - settled)
        if surplus <= 0:
            return
        leaving = sorted(self.on_demand, key=lambda row: (row.ready_s is None, row.since_s), reverse=True)
        for row in leaving[:surplus]:
            self.actions.append(Stop(row.instance_id))
        self.reasons.append(f"on demand: {surplus} fewer, spot has been ready in their place")

    def _rent_on_demand(self, lacking: int) -> None:
        asked = {key: n for (key, kind), n in self.state.holdings.asked.items() if kind == "on_demand"}
        markets = sorted(
            (
                domain
                for domain in self.state.domains.values()
                if domain.market.on_demand_micro_usd_per_h is not None
            ),
            key=lambda domain: (domain.market.on_demand_micro_usd_per_h, domain.market.market_id),
        )
        left = lacking
        for domain in markets:
            key = domain.market.market_id
            room = min(left, domain.on_demand.room(asked.get(key, 0), self.now_s))
            self.actions += [Launch(key, "on_demand")] * room
            left -= room
            if not left:
                break
        self.reasons.append(
            f"on demand: {lacking} are lacking beside {len(self.spot)} of spot"
            + (f"; no market may be asked for {left} of them now" if left else "")
        )

    def _on_demand_price(self) -> int | None:
        prices = (domain.market.on_demand_micro_usd_per_h for domain in self.state.domains.values())
        return min((price for price in prices if price is not None), default=None)
