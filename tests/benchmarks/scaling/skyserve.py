"""SpotHedge, the policy of SkyServe (Mao et al., EuroSys 2025, arXiv:2411.01438), for comparison. From its description.

Zones are in one of two lists: those where spot was had, and those that have just refused or taken back. New spot
instances go to the zones of the first list that hold none of ours yet, the cheapest first; once fewer than two zones
are left in it, all count as open again. There are always ``extra`` more spot instances than wanted, and of on-demand
ones ``min(wanted, wanted + extra - ready spot)``, at once in both directions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controlplane.procurement.market import (
    NOTHING,
    Action,
    Event,
    Holdings,
    Launch,
    Lost,
    Market,
    NotObtained,
    Priced,
    Ready,
    Stop,
    Wanted,
)

#: With fewer zones in the list of open ones, all are tried again.
OPEN_LEAST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SkyServeState:
    """``closed``: the zones that have refused or taken back since all were last opened."""

    holdings: Holdings = NOTHING
    markets: Mapping[str, Market] = field(default_factory=dict)
    closed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class SkyServe:
    """The policy over these markets. ``extra``: spot instances beyond what is wanted."""

    markets: tuple[Market, ...]
    extra: int = 2

    def start(self) -> SkyServeState:
        """Nothing is held, every zone is open."""
        return SkyServeState(markets={market.market_id: market for market in self.markets})

    def step(
        self, state: SkyServeState, event: Event, now_s: float
    ) -> tuple[SkyServeState, tuple[Action, ...], tuple[str, ...]]:
        """``Wanted`` is decided on; every other event is taken note of."""
        if isinstance(event, Wanted):
            return self._decide(state, event.instances)
        if isinstance(event, Priced):
            markets = {**state.markets, event.market.market_id: event.market}
            return replace(state, markets=markets), (), ()
        row = state.holdings.held.get(event.instance_id) if isinstance(event, Lost | Ready) else None
        closed = state.closed
        if isinstance(event, NotObtained) and event.rented == "spot":
            closed = self._closed(state, event.market_id)
        elif isinstance(event, Lost) and row is not None and row.rented == "spot":
            closed = self._closed(state, row.market_id)
        elif isinstance(event, Ready) and row is not None and row.rented == "spot":
            closed = closed - {row.market_id}
        return replace(state, closed=closed, holdings=state.holdings.after(event, now_s)), (), ()

    def _closed(self, state: SkyServeState, market_id: str) -> frozenset[str]:
        closed = state.closed | {market_id}
        return frozenset() if len(state.markets) - len(closed) < OPEN_LEAST else closed

    def _decide(
        self, state: SkyServeState, wanted: int
    ) -> tuple[SkyServeState, tuple[Action, ...], tuple[str, ...]]:
        holdings = state.holdings
        spot, on_demand = holdings.rows("spot"), holdings.rows("on_demand")
        actions: list[Action] = []
        counts = {key: 0 for key, market in state.markets.items() if market.spot_micro_usd_per_h is not None}
        for row in spot:
            counts[row.market_id] = counts.get(row.market_id, 0) + 1
        for (key, rented), asked in holdings.asked.items():
            if rented == "spot":
                counts[key] = counts.get(key, 0) + asked
        spot_wanted = wanted + self.extra if wanted else 0
        for _ in range(spot_wanted - sum(counts.values())):
            zone = self._next_zone(state, counts)
            if zone is None:
                break
            counts[zone] += 1
            actions.append(Launch(zone, "spot"))
        surplus = sorted(spot, key=lambda row: (row.ready_s is None, row.since_s), reverse=True)
        actions += [Stop(row.instance_id) for row in surplus[: max(0, len(spot) - spot_wanted)]]
        ready = sum(row.ready_s is not None for row in spot)
        target = max(0, min(wanted, spot_wanted - ready))
        actions += self._on_demand(state, target - len(on_demand) - holdings.asked_of("on_demand"))
        leaving = sorted(on_demand, key=lambda row: (row.ready_s is None, row.since_s), reverse=True)
        actions += [Stop(row.instance_id) for row in leaving[: max(0, len(on_demand) - target)]]
        reasons = (f"spot: {spot_wanted} wanted, {ready} ready; on demand: {target}",) if actions else ()
        return replace(state, holdings=holdings.done(tuple(actions))), tuple(actions), reasons

    def _next_zone(self, state: SkyServeState, counts: Mapping[str, int]) -> str | None:
        opened = [key for key in counts if key in state.markets and key not in state.closed]
        unused = [key for key in opened if not counts[key]] or opened
        return min(unused, key=lambda key: (counts[key], _spot_price(state, key), key), default=None)

    def _on_demand(self, state: SkyServeState, lacking: int) -> list[Action]:
        prices = [
            (market.on_demand_micro_usd_per_h, key)
            for key, market in state.markets.items()
            if market.on_demand_micro_usd_per_h is not None
        ]
        return [Launch(min(prices)[1], "on_demand")] * lacking if prices and lacking > 0 else []


def _spot_price(state: SkyServeState, key: str) -> int:
    return state.markets[key].spot_micro_usd_per_h or 0
