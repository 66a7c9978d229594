"""What every policy of renting speaks of: markets, instances held and asked for, what happens and what is done.

A policy is single-owner state behind ``step(state, event, now_s) -> (state, actions, reasons)``. ``Wanted`` is the
event at which it decides; all others only tell it what has come of its actions and what the providers did.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeVar

from workloadplane.words import counted

Rented = Literal["on_demand", "spot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """One type of instance in one zone, with its prices for an hour (None: it is not rented so).

    All its spot capacity is one failure domain: it is taken back together (placement's ``spot_group``).
    hazard_per_h: of its spot, as stated: believed until more is seen; None: as the policy believes of all
    """

    market_id: str
    region: str
    spot_micro_usd_per_h: int | None = None
    on_demand_micro_usd_per_h: int | None = None
    hazard_per_h: float | None = None

    def __post_init__(self) -> None:
        if self.hazard_per_h is not None and not self.hazard_per_h >= 0:
            raise ValueError(f"market {self.market_id}: a hazard of {self.hazard_per_h}; give 0 or more")
        for price in (self.spot_micro_usd_per_h, self.on_demand_micro_usd_per_h):
            if price is not None and price < 0:
                raise ValueError(f"market {self.market_id}: a price of {price}; give 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An instance that is paid for. ``ready_s``: since when it serves; None while it starts."""

    instance_id: str
    market_id: str
    rented: Rented
    since_s: float
    ready_s: float | None = None


@dataclass(frozen=True, slots=True)
class Obtained:
    """A launch succeeded: the instance is paid for from now on."""

    instance_id: str
    market_id: str
    rented: Rented


@dataclass(frozen=True, slots=True)
class NotObtained:
    """A launch failed: the market had none."""

    market_id: str
    rented: Rented


@dataclass(frozen=True, slots=True)
class Ready:
    """An instance serves."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class Lost:
    """An instance is gone: taken back, or broken."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class Priced:
    """A market's prices from now on; also of a market that was not known."""

    market: Market


@dataclass(frozen=True, slots=True)
class Wanted:
    """So many instances are to serve: decide."""

    instances: int

    def __post_init__(self) -> None:
        if self.instances < 0:
            raise ValueError(f"{counted(self.instances, 'instance')} wanted; give 0 or more")


@dataclass(frozen=True, slots=True)
class Launch:
    """Ask a market for one instance. Answered by ``Obtained`` or ``NotObtained``."""

    market_id: str
    rented: Rented


@dataclass(frozen=True, slots=True)
class Stop:
    """End an instance. The policy counts it as gone; nothing answers."""

    instance_id: str


Event = Obtained | NotObtained | Ready | Lost | Priced | Wanted
Action = Launch | Stop

S = TypeVar("S")


class Policy(Protocol[S]):
    """A way of renting. ``start`` gives the state before anything is held."""

    def start(self) -> S: ...

    def step(self, state: S, event: Event, now_s: float) -> tuple[S, tuple[Action, ...], tuple[str, ...]]: ...


@dataclass(frozen=True, slots=True)
class Holdings:
    """Instances by id, and how many launches of each kind are not answered yet."""

    held: Mapping[str, Held] = field(default_factory=dict)
    asked: Mapping[tuple[str, Rented], int] = field(default_factory=dict)

    def after(self, event: Event, now_s: float) -> "Holdings":
        """What is held after an event. What speaks of an instance that is not held changes nothing."""
        if isinstance(event, Obtained):
            row = Held(
                instance_id=event.instance_id,
                market_id=event.market_id,
                rented=event.rented,
                since_s=now_s,
            )
            held = {**self.held, event.instance_id: row}
            return Holdings(held, self._answered(event.market_id, event.rented))
        if isinstance(event, NotObtained):
            return Holdings(self.held, self._answered(event.market_id, event.rented))
        if isinstance(event, Ready) and event.instance_id in self.held:
            row = replace(self.held[event.instance_id], ready_s=now_s)
            return Holdings({**self.held, event.instance_id: row}, self.asked)
        if isinstance(event, Lost) and event.instance_id in self.held:
            return self.without(event.instance_id)
        return self

    def done(self, actions: tuple[Action, ...]) -> "Holdings":
        """What is held and asked for once these are done."""
        asked, held = dict(self.asked), dict(self.held)
        for action in actions:
            if isinstance(action, Launch):
                key = (action.market_id, action.rented)
                asked[key] = asked.get(key, 0) + 1
            else:
                held.pop(action.instance_id, None)
        return Holdings(held, asked)

    def without(self, instance_id: str) -> "Holdings":
        return Holdings({key: row for key, row in self.held.items() if key != instance_id}, self.asked)

    def rows(self, rented: Rented) -> tuple[Held, ...]:
        """Instances rented so, in the order in which they were had."""
        return tuple(row for row in self.held.values() if row.rented == rented)

    def asked_of(self, rented: Rented) -> int:
        """Launches of this kind that are not answered yet."""
        return sum(count for (_, kind), count in self.asked.items() if kind == rented)

    def _answered(self, market_id: str, rented: Rented) -> Mapping[tuple[str, Rented], int]:
        key = (market_id, rented)
        left = self.asked.get(key, 0) - 1
        asked = {other: count for other, count in self.asked.items() if other != key}
        return {**asked, key: left} if left > 0 else asked


#: Before anything is held or asked for.
NOTHING = Holdings()
