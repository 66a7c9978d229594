"""Who serves where only one region may: the lease, the observer that finds a loss, and the standby's promotion.

Runs as in production: ``controlplane.failover``'s ``listen``, ``promotion`` and ``seat_settle``, twice a second; agents
that call home every second; gateways that serve by the table that they hold and for as long as the control plane was
heard. A model: a call and its answer take ``WAY_S`` each, and a cluster's gateways and its agent are one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from controlplane.failover import (
    Candidate,
    Listening,
    ListeningPolicy,
    PromotionPolicy,
    Seat,
    Standing,
    listen,
    promotion,
    seat_settle,
)
from controlplane.simulation.serving.clock import Clock
from controlplane.simulation.serving.geography import Outage
from controlplane.simulation.serving.outcome import SeatsOutcome, SeatTold
from controlplane.simulation.serving.placement_world import Away
from controlplane.simulation.serving.region_cluster import RegionCluster
from workloadplane.agent.backoff import pause_s
from workloadplane.agent.timings import AgentTimings

#: As ``apps.agents.leases`` has them: of the gateways, of the control plane, and of who may take over.
HARD_TTL_S = 6.0
SERVING_LEASE_S = 7.0
HEARD_S = 4.0
#: As ``apps.agents.wire`` has it.
LOOK_S = 0.5
#: Between an agent and its control plane.
WAY_S = 0.05
#: Of the takeovers so many are told one by one.
SEATS_TOLD = 100
_PROMOTION = PromotionPolicy(silent_s=HARD_TTL_S, heard_s=HEARD_S)
_LISTENING = ListeningPolicy()
_TIMINGS = AgentTimings()
#: What lacks something now has lacked it for longer than no time at all.
_MOMENT_S = 0.001


@dataclass(frozen=True, slots=True)
class _Look:
    """The observer's."""


@dataclass(frozen=True, slots=True)
class _Calls:
    """An agent calls home, and is heard ``WAY_S`` later."""

    region: str


@dataclass(frozen=True, slots=True)
class _Answered:
    """Its call of then: with the table that was the newest when the answer was given."""

    region: str
    asked_s: float
    generation: int


@dataclass(frozen=True, slots=True)
class _Held:
    """Its call of then has been held for as long as it asked to be."""

    region: str
    asked_s: float


@dataclass(frozen=True, slots=True)
class _Checks:
    """Whether a region still serves: its lease may be over, or it has fallen silent."""

    region: str


@dataclass(slots=True)
class _Gateway:
    """One region's. ``held``: its table; ``lease_s``: when the last call that was answered was sent."""

    held: int = 1
    lease_s: float = 0.0
    failures: int = 0


@dataclass(slots=True)
class _Known:
    """What the control plane knows. ``calls``: those that it holds, by region, and when they were sent."""

    signs: dict[str, int]
    said: dict[str, int]
    calls: dict[str, float] = field(default_factory=dict)


class Seats:
    """Single owner: the mode that plays it, by whose clock it looks."""

    def __init__(
        self,
        order: Callable[[], Sequence[str]],
        clusters: Mapping[str, RegionCluster],
        outages: Sequence[Outage],
        away: Sequence[Away],
        *,
        clock: Clock,
        seed: int,
    ) -> None:
        """``order``: the clusters that hold the deployment, who is to serve before who stands by."""
        self._order, self._clusters, self._away, self._clock = order, clusters, away, clock
        self._rng = Random(f"calls home {seed}")  # noqa: S311  draws pauses, guards nothing
        first = order()[0]
        self._seat, self._promoted = Seat(serving=first), ""
        self._made: dict[int, str | None] = {1: first}
        self._gateways = {name: _Gateway() for name in clusters}
        self._known = _Known(dict.fromkeys(clusters, 0), dict.fromkeys(clusters, 1))
        self._listening = Listening()
        self._unready_since: dict[str, float] = {}
        self._serves: str | None = first
        self._nobody_since_s = 0.0
        self._cause = ""
        self.outcome = SeatsOutcome()
        self.broken: list[str] = []
        self._note(0.0, first)
        for number, name in enumerate(clusters):
            self._seat_at(name, 0.0)
            clock.put(number * 0.1, self, _Calls(name))
            clock.put(HARD_TTL_S + _MOMENT_S, self, _Checks(name))
        for outage in outages:
            clock.put(outage.at_s, self, _Checks(outage.region))
            if outage.back_s < float("inf"):
                clock.put(outage.back_s, self, _Checks(outage.region))
                clock.put(outage.back_s, self, _Calls(outage.region))
        clock.put(LOOK_S, self, _Look())

    def happen(self, event: object, now_s: float) -> None:
        match event:
            case _Look():
                if not self._is_away(now_s):
                    self._look(now_s)
                self._clock.put(now_s + LOOK_S, self, event)
            case _Calls():
                self._call(event.region, now_s)
            case _Held():
                if self._known.calls.get(event.region) == event.asked_s:
                    self._answer(event.region, now_s)
            case _Answered():
                self._take(event, now_s)
            case _Checks():
                self._check(event.region, now_s)

    def close(self, end_s: float) -> None:
        """The world's end."""
        if self._serves is None:
            self.outcome.nobody_s += end_s - self._nobody_since_s

    # Agents and gateways

    def _call(self, region: str, now_s: float) -> None:
        gateway, known = self._gateways[region], self._known
        if self._clusters[region].is_out:
            return  # it calls again when it is back
        if self._is_away(now_s + WAY_S):
            gateway.failures += 1
            base_s, cap_s = _TIMINGS.back_off_base_s, _TIMINGS.back_off_cap_s
            after_s = pause_s(gateway.failures, base_s=base_s, cap_s=cap_s, random=self._rng.random())
            self._clock.put(now_s + after_s, self, _Calls(region))
            return
        gateway.failures = 0
        known.signs[region] += 1
        known.said[region] = gateway.held
        known.calls[region] = now_s
        if max(self._made) > gateway.held:
            self._answer(region, now_s + WAY_S)
        else:
            self._clock.put(now_s + WAY_S + _TIMINGS.sync_wait_s, self, _Held(region, now_s))

    def _answer(self, region: str, now_s: float) -> None:
        """Its agent calls again as soon as it has the answer; one that comes to nobody is none."""
        asked_s = self._known.calls.pop(region)
        if self._is_away(now_s):
            self._clock.put(now_s + WAY_S, self, _Calls(region))
        else:
            self._clock.put(now_s + WAY_S, self, _Answered(region, asked_s, max(self._made)))

    def _take(self, answer: _Answered, now_s: float) -> None:
        """The table first, then the lease, which counts from when the call was sent."""
        if self._clusters[answer.region].is_out:
            return
        gateway = self._gateways[answer.region]
        gateway.held, gateway.lease_s = max(gateway.held, answer.generation), answer.asked_s
        self._seat_at(answer.region, now_s)
        self._call(answer.region, now_s)

    def _check(self, region: str, now_s: float) -> None:
        self._seat_at(region, now_s)
        expires_s = self._gateways[region].lease_s + HARD_TTL_S + _MOMENT_S
        if not self._clusters[region].is_out and expires_s > now_s:
            self._clock.put(expires_s, self, _Checks(region))

    def _seat_at(self, region: str, now_s: float) -> None:
        """What its gateway goes by now; and who serves at all."""
        gateway = self._gateways[region]
        serving = self._made[gateway.held]
        others = tuple(name for name in self._order() if name != serving)
        holders = (serving, *others) if serving is not None else ()
        self._clusters[region].sit(holders, lease_holds=self._lease_holds(region, now_s), now_s=now_s)
        serve = [name for name in self._clusters if self._is_serving(name, now_s)]
        if len(serve) > 1 and not self.broken:
            self.broken.append(f"rule 6: {' and '.join(serve)} serve (at {now_s:.1f} s)")
        self._note_who(serve[0] if serve else None, now_s)

    def _lease_holds(self, region: str, now_s: float) -> bool:
        return now_s - self._gateways[region].lease_s <= HARD_TTL_S

    def _is_serving(self, region: str, now_s: float) -> bool:
        is_named = self._made[self._gateways[region].held] == region
        return is_named and self._lease_holds(region, now_s) and not self._clusters[region].is_out

    # The control plane

    def _is_away(self, now_s: float) -> bool:
        return any(away.at_s <= now_s < away.back_s for away in self._away)

    def _look(self, now_s: float) -> None:
        known, order = self._known, list(self._order())
        markers = {name: str(count) for name, count in known.signs.items()}
        self._listening = listen(self._listening, markers, now_s, _LISTENING)
        unready = {name for name, each in self._clusters.items() if not each.is_out and not each.load().ready}
        unready |= {name for name in self._unready_since if self._clusters[name].is_out}
        self._unready_since = {name: self._unready_since.get(name, now_s) for name in unready}
        silent_s = {name: self._listening.silent_s(name, marker, now_s) for name, marker in markers.items()}
        if self._promoted not in order or self._promoted == order[0]:
            self._promoted = ""
        wanted_in_order = dict.fromkeys([*([self._promoted] if self._promoted else []), *order])
        found = promotion(
            [
                Candidate(
                    name,
                    silent_s[name],
                    max(_MOMENT_S, now_s - self._unready_since[name]) if name in unready else 0.0,
                    0.0,
                )
                for name in wanted_in_order
            ],
            _PROMOTION,
        )
        if found is None:
            return
        self._promoted = found.cluster_id if found.cluster_id != order[0] else ""
        standings = {name: Standing(known.said[name], silent_s[name]) for name in self._clusters}
        after = seat_settle(self._seat, found.cluster_id, standings, lease_s=SERVING_LEASE_S)
        if self._seat.serving == found.cluster_id != after.serving or after.serving is None:
            self._cause = found.cause or self._cause
        self._store(after, now_s)

    def _store(self, seat: Seat, now_s: float) -> None:
        """A table is made where it changes who serves; who yields does so from that one on. Held calls are answered."""
        newest = max(self._made)
        is_new = seat.serving != self._made[newest]
        if is_new:
            newest += 1
            self._made[newest] = seat.serving
        yielding = tuple(
            row if row.generation is not None else replace(row, generation=newest) for row in seat.yielding
        )
        self._seat = replace(seat, yielding=yielding)
        for region in list(self._known.calls) if is_new else ():
            self._answer(region, now_s)

    # What is told

    def _note_who(self, serves: str | None, now_s: float) -> None:
        if serves == self._serves:
            return
        if self._serves is None:
            self.outcome.nobody_s += now_s - self._nobody_since_s
        else:
            self._nobody_since_s = now_s
        self._serves = serves
        self._note(now_s, serves or "")

    def _note(self, now_s: float, region: str) -> None:
        if len(self.outcome.told) < SEATS_TOLD:
            self.outcome.told.append(SeatTold(at_s=now_s, region=region, cause=self._cause if region else ""))
        if region:
            self.outcome.takeovers += bool(now_s)
            self._cause = ""
