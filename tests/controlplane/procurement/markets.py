"""Markets that answer at random, for the policies' invariants."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from controlplane.procurement import (
    Action,
    Holdings,
    Launch,
    Lost,
    Market,
    NotObtained,
    Obtained,
    Policy,
    Ready,
    Stop,
    Wanted,
)

TICK_S = 60.0


def market(name: str = "g@a1", *, spot: int | None = 300_000, on_demand: int | None = 1_000_000) -> Market:
    return Market(
        market_id=name,
        region=name[:-1],
        spot_micro_usd_per_h=spot,
        on_demand_micro_usd_per_h=on_demand,
    )


@dataclass
class Looked:
    """One decision: what was held before it, what it did, and what is held and asked for after it."""

    now_s: float
    wanted: int
    before: Holdings
    after: Holdings
    actions: tuple[Action, ...]
    reasons: tuple[str, ...]


@dataclass
class Chance:
    """Spot is had, kept and taken back by chance; on demand is always had unless ``on_demand`` is 0."""

    rng: Random
    obtain: float = 0.6
    lose: float = 0.05
    on_demand: float = 1.0
    cold_ticks: int = 3
    names: int = 0
    ready_at: dict[str, int] = field(default_factory=dict)


def looks(policy: Policy[Any], chance: Chance, wanted: list[int]) -> Iterator[Looked]:
    """One look a tick, with everything answered in the next."""
    state, asked = policy.start(), list[Launch]()
    for tick, count in enumerate(wanted):
        now_s = tick * TICK_S
        for event in _events(state.holdings, chance, asked, tick):
            state, actions, _ = policy.step(state, event, now_s)
            assert actions == ()  # only what is wanted is decided on
        before = state.holdings
        state, actions, reasons = policy.step(state, Wanted(count), now_s)
        asked = [action for action in actions if isinstance(action, Launch)]
        assert all(isinstance(action, Launch) or action.instance_id in before.held for action in actions)
        yield Looked(now_s, count, before, state.holdings, actions, reasons)


def _events(holdings: Holdings, chance: Chance, asked: list[Launch], tick: int) -> list[Any]:
    rng, found = chance.rng, list[Any]()
    for row in holdings.held.values():
        if row.rented == "spot" and rng.random() < chance.lose:
            found.append(Lost(row.instance_id))
        elif row.ready_s is None and chance.ready_at[row.instance_id] <= tick:
            found.append(Ready(row.instance_id))
    for launch in asked:
        likely = chance.obtain if launch.rented == "spot" else chance.on_demand
        if rng.random() < likely:
            chance.names += 1
            name = f"i{chance.names}"
            chance.ready_at[name] = tick + chance.cold_ticks
            found.append(Obtained(name, launch.market_id, launch.rented))
        else:
            found.append(NotObtained(launch.market_id, launch.rented))
    return found


def stops(look: Looked) -> list[str]:
    return [action.instance_id for action in look.actions if isinstance(action, Stop)]
