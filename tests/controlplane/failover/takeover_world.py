"""Regions, two observers and a database in virtual time: what the rules of a takeover are tried in.

Everything that takes time in the real system is two steps here, so that anything may come between them: a call is
begun, written, read and answered; an observer reads signs of life and settles later by what it had read. Clocks run
apart and at their own pace. Who serves is read off the gateways alone.
"""

from dataclasses import dataclass, field, replace

from controlplane.failover import (
    Candidate,
    Listening,
    ListeningPolicy,
    PromotionPolicy,
    Seat,
    Standing,
    listen,
    promotion,
    seat_fenced,
    seat_settle,
)

NAMES = ("a", "b", "c")
TTL_S = 6.0  # what gateways go by
LEASE_S = 7.0  # what the control plane goes by
PROMOTION = PromotionPolicy(silent_s=TTL_S, heard_s=4.0)
LISTENING = ListeningPolicy()


@dataclass
class Call:
    """One call home. ``held``: what gateways had when it was begun; ``table``: what its answer brings."""

    asked_at_s: float
    held: int
    table: int | None = None
    written: bool = False


@dataclass
class Region:
    """A cluster with its gateways; ``rate`` and ``offset_s`` are of its clock."""

    name: str
    rate: float = 1.0
    offset_s: float = 0.0
    held: int = 0
    lease_s: float | None = None
    call: Call | None = None
    alive: bool = True


@dataclass
class Observer:
    """Memory of one observer; ``read``: signs of life of a look that is not settled yet."""

    offset_s: float
    listening: Listening = field(default_factory=Listening)
    read: tuple[dict[str, str], dict[str, float]] | None = None
    unready_since: dict[str, float] = field(default_factory=dict)


@dataclass
class Database:
    """What is stored. ``signs``: calls counted, by cluster; ``said``: what gateways hold, as reported."""

    seat: Seat = field(default_factory=Seat)
    plan: tuple[str, ...] = NAMES[:2]
    promoted: str | None = None
    generation: int = 0
    signs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    said: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))


class World:
    """``made``: generation -> who serves by that table."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.made: dict[int, str | None] = {0: None}
        self.database = Database()
        self.backups: list[Database] = []
        self.regions = {name: Region(name) for name in NAMES}
        self.observers = [Observer(0.0), Observer(-5e5)]
        self.ready = dict.fromkeys(NAMES, True)

    # What regions do

    def clock(self, region: Region) -> float:
        return self.now_s * region.rate + region.offset_s

    def begin(self, name: str) -> None:
        region = self.regions[name]
        region.call = Call(self.clock(region), region.held)

    def write(self, name: str) -> None:
        """The lease is written, and what the agent reports."""
        call = self.regions[name].call
        if call is None or call.held > self.database.generation:
            self.regions[name].call = None  # refused: the database is of an earlier time
            return
        call.written = True
        self.database.signs[name] += 1
        self.database.said[name] = call.held

    def read(self, name: str) -> None:
        """What is new is read after that."""
        call = self.regions[name].call
        if call is not None and call.written:
            call.table = self.database.generation

    def answer(self, name: str) -> None:
        """Gateways take the table, then the lease, which counts from when the call was begun."""
        region, call = self.regions[name], self.regions[name].call
        if call is None or call.table is None:
            return
        region.held = max(region.held, call.table)
        if region.held == call.table:
            region.lease_s = call.asked_at_s
        region.call = None

    def call(self, name: str) -> None:
        for step in (self.begin, self.write, self.read, self.answer):
            step(name)

    def serving(self) -> list[str]:
        return [
            region.name
            for region in self.regions.values()
            if region.lease_s is not None
            and self.made[region.held] == region.name
            and self.clock(region) - region.lease_s <= TTL_S
        ]

    # What the control plane does

    def look(self, observer: Observer) -> None:
        """Read the signs of life."""
        now_s = self.now_s + observer.offset_s
        markers = {name: str(count) for name, count in self.database.signs.items()}
        observer.listening = listen(observer.listening, markers, now_s, LISTENING)
        observer.unready_since = {
            name: observer.unready_since.get(name, now_s) for name in NAMES if not self.ready[name]
        }
        silences = {name: observer.listening.silent_s(name, markers[name], now_s) for name in NAMES}
        observer.read = (markers, silences)

    def settle(self, observer: Observer | None) -> None:
        """Compile: with what an observer has read, or (None) as everybody else does."""
        database = self.database
        markers, silences = observer.read if observer is not None and observer.read else ({}, {})
        silent_s = {
            name: silences[name] if markers.get(name) == str(database.signs[name]) else 0.0 for name in NAMES
        }
        order = list(dict.fromkeys([*([database.promoted] if database.promoted else []), *database.plan]))
        wanted = order[0]
        if observer is not None:
            since = observer.unready_since
            now_s = self.now_s + observer.offset_s
            found = promotion(
                [
                    Candidate(
                        name, silent_s[name], max(0.001, now_s - since[name]) if name in since else 0.0, 0.0
                    )
                    for name in order
                ],
                PROMOTION,
            )
            wanted = found.cluster_id if found is not None else wanted
            observer.read = None
        database.promoted = wanted if wanted != database.plan[0] else None
        standings = {name: Standing(database.said[name], silent_s[name]) for name in NAMES}
        self.store(seat_settle(database.seat, wanted, standings, lease_s=LEASE_S))

    def store(self, seat: Seat) -> None:
        """A table is made where it changes who serves; who yields does so from that table on."""
        database = self.database
        if seat.serving != self.made.get(database.generation):
            database.generation = max(self.made) + 1
            self.made[database.generation] = seat.serving
        yielding = tuple(
            row if row.generation is not None else replace(row, generation=database.generation)
            for row in seat.yielding
        )
        database.seat = replace(seat, yielding=yielding)

    def back_up(self) -> None:
        copy = replace(self.database, signs=dict(self.database.signs), said=dict(self.database.said))
        self.backups = [copy, *self.backups[:2]]

    def restore(self) -> None:
        """An old state comes back; its epoch is raised before anybody is answered: generations leap, all yield."""
        if not self.backups:
            return
        old = self.backups[-1]
        self.database = replace(old, signs=dict(old.signs), said=dict(old.said), promoted=None)
        self.database.generation = max(self.made) + 1000
        self.made[self.database.generation] = None
        self.store(seat_fenced(NAMES))
