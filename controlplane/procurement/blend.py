"""The blend of on-demand and spot instances by which a wanted number is served.

- Spot first, in the zones where it costs least: price x (1 + hazard x what a loss costs + chance of a refusal x what
  that costs). A loss costs more where more stands already: one zone's capacity of a type is taken back together.
- Some more than wanted, as many as are worth their price (``cover``).
- On demand what spot lacks, and never fewer than the floor; it leaves when as much spot has been ready for a while.
- Markets that refuse, or take back, are left alone for longer and longer (``door``), and beyond that the longer the
  less of what is wanted is lacking; what is more than wanted, or would only be cheaper, waits until they have rested.
"""

from dataclasses import dataclass, field, replace

from controlplane.procurement.blend_decision import Decision
from controlplane.procurement.blend_state import BlendPolicy, BlendState, Domain
from controlplane.procurement.door import Door
from controlplane.procurement.market import (
    Action,
    Event,
    Held,
    Lost,
    Market,
    NotObtained,
    Obtained,
    Priced,
    Wanted,
)
from controlplane.procurement.rates import S_PER_H, FadingRate, FadingShare

#: Losses in one domain that follow one another so closely are one: over 92 % of what is taken back of one type in one
#: zone goes within three minutes (arXiv:2604.16457, 2,635 interruptions on AWS and Azure).
TOGETHER_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """The policy over these markets."""

    markets: tuple[Market, ...]
    policy: BlendPolicy = field(default_factory=BlendPolicy)

    def start(self) -> BlendState:
        """Nothing is held, nothing has been seen."""
        return BlendState(domains={market.market_id: self._domain(market) for market in self.markets})

    def step(
        self, state: BlendState, event: Event, now_s: float
    ) -> tuple[BlendState, tuple[Action, ...], tuple[str, ...]]:
        """``Wanted`` is decided on; every other event is taken note of."""
        if isinstance(event, Wanted):
            return Decision(self.policy, self._watched(state, now_s), event.instances, now_s).made()
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
        policy, stated_per_h = self.policy, market.hazard_per_h
        hazard = FadingRate(
            prior_per_h=policy.prior_per_h if stated_per_h is None else stated_per_h,
            prior_h=policy.prior_h,
            half_life_h=policy.half_life_h,
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
