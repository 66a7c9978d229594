"""One decision of the blend: what to launch, what to stop, and why."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from controlplane.procurement.blend_state import BlendPolicy, BlendState, Domain
from controlplane.procurement.cover import cover
from controlplane.procurement.market import Action, Held, Launch, Stop
from controlplane.procurement.rates import S_PER_H


class Decision:
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
        patience = (1 - lacking_share) ** self.policy.rest_power
        unproven = sum(count for key, count in asked.items() if not self.counts.get(key))
        found = min(
            (
                (price, key)
                for key, price in self._open_markets(counts, asked, patience=patience)
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
        self, counts: Mapping[str, int], asked: Mapping[str, int], *, patience: float
    ) -> Iterator[tuple[str, float]]:
        """Markets that may be asked for one more spot instance and are worth it, with what that costs in all.

        ``patience``: 0 to 1; the less of it, the sooner a market that has refused may be asked again.
        """
        on_demand = self._on_demand_price()
        for key, domain in self.state.domains.items():
            if domain.market.spot_micro_usd_per_h is None:
                continue
            door = domain.spot
            rest_s = self.policy.rest_s * patience if door.refusals else 0.0
            if self.now_s < door.opens_s(self.policy.spot, patience) + rest_s:
                continue
            if not door.room(asked.get(key, 0)):
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
            if self.now_s < domain.on_demand.closed_until_s:
                continue
            room = min(left, domain.on_demand.room(asked.get(key, 0)))
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
