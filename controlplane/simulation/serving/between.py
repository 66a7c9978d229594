"""What goes on between clusters: what their gateways tell one another, requests on their way, and who is gone.

As the gateways do it: each asks each other one every 0.25 to 0.5 s what it has and whom it sees, looks at all
evidence every 0.05 s, and sends a request at most one hop; it comes there half a round trip later. The edge leads
clients to the nearest gateway that answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Final

from controlplane.simulation.serving.clock import Clock
from controlplane.simulation.serving.edge import (
    EDGE_CHECKS_EVERY_S,
    Edge,
    Goes,
    Notices,
    Reopens,
    Returns,
)
from controlplane.simulation.serving.geography import Geography, Outage
from controlplane.simulation.serving.region_cluster import RegionCluster
from controlplane.simulation.serving.request import Request
from workloadplane.health.outlook import Sighting
from workloadplane.routing import ToPeer
from workloadplane.routing.regions import RevisionLoad

#: As ``workloadplane.gateway.regions`` has them.
ASK_EVERY_S: Final = (0.25, 0.5)
TICK_S: Final = 0.05
GIVEN_UP_S: Final = 2.0
#: While nothing can come of it nobody looks: an observer that did not run takes that time for no silence. It looks
#: again so long before something happens, with answers heard meanwhile; and for so long after the last change.
_WARM_S: Final = 5.0
_REST_S: Final = 6.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question comes to ``asked``. ``life``: of the asker's process."""

    asker: str
    asked: str
    life: int
    asked_s: float


@dataclass(frozen=True, slots=True)
class _Answered:
    question: _Asked
    load: RevisionLoad
    word: Mapping[str, Sighting] | None


@dataclass(frozen=True, slots=True)
class _Looks:
    """All gateways look at their evidence."""


@dataclass(frozen=True, slots=True)
class _Wakes:
    """Something will happen soon: gateways begin to look."""


@dataclass(frozen=True, slots=True)
class _Lands:
    """A request comes to a peer's gateway, or back. Void if it has gone elsewhere meanwhile (``turn``)."""

    request: Request
    turn: int
    peer: str
    may_hold: bool
    is_back: bool = False


@dataclass(frozen=True, slots=True)
class _Reaches:
    """A client sends its request to the gateway that the edge leads it to now."""

    request: Request


class Between:
    """Single owner: the mode that plays. ``is_any_out``: whether a region is gone just now."""

    def __init__(
        self,
        geography: Geography,
        clusters: Mapping[str, RegionCluster],
        outages: tuple[Outage, ...],
        *,
        clock: Clock,
        seed: int,
        wait_max_s: float,
    ) -> None:
        """``clusters`` by region, several; ``wait_max_s``: how long a client tries."""
        self.is_any_out = False
        self._geography, self._clusters, self._clock = geography, clusters, clock
        self._rng = Random(seed)  # noqa: S311  draws delays, guards nothing
        self._wait_max_s = wait_max_s
        self._lives = dict.fromkeys(clusters, 0)
        self._edge = Edge(geography)
        self._away = self._edge.away
        self._looks, self._changed_s = False, 0.0
        self.gateways: list[RegionCluster | None] = []
        self._lead()
        for outage in outages:
            clock.put(outage.at_s, self, Goes(outage))
            clock.put(max(0.0, outage.at_s - _WARM_S), self, _Wakes())
            if outage.back_s < inf:
                clock.put(outage.back_s, self, Returns(outage))
        for name, cluster in clusters.items():
            cluster.ways = self
            self._ask_all(name, 0.0)
        self._look_on(0.0)

    def happen(self, event: object, now_s: float) -> None:
        match event:
            case _Asked():
                self._answer(event, now_s)
            case _Answered():
                self._hear(event, now_s)
            case _Looks():
                self._look(now_s)
            case _Wakes():
                self._look_on(now_s)
            case _Lands():
                if event.turn == event.request.turn:
                    self._land(event, now_s)
            case _Reaches():
                self.reach(event.request, now_s)
            case Goes() | Notices() | Returns() | Reopens():
                self._edge.hear(event)
                self._lead()
                if isinstance(event, Goes):
                    self._go(event.outage, now_s)
                elif isinstance(event, Returns):
                    self._return(event.outage, now_s)

    def ejections(self, region: str) -> int:
        """Of it, by all others together."""
        return sum(cluster.neighbours.ejections[region] for cluster in self._clusters.values())

    # Clients

    def reach(self, request: Request, now_s: float) -> None:
        """A client sends a request, now."""
        home = self.gateways[request.origin]
        if home is not None:
            request.back_s = self._geography.round_trips.s(self._geography.origins[request.origin], home.name)
            home.arrive(request, now_s)
            return
        again_s = self._edge.tries_again_s(request.origin, now_s)
        gives_up_s = inf if request.began_s is not None else request.came_s + self._wait_max_s
        if again_s > gives_up_s or again_s == inf:
            request.account.refuses(request)
        else:
            self._clock.put(again_s, self, _Reaches(request))

    def _lead(self) -> None:
        """Where the clients of each place come out; None: at a gateway that says nothing, or nowhere."""
        names = (self._edge.gateway(origin) for origin in range(len(self._geography.origins)))
        self.gateways = [None if name is None else self._clusters[name] for name in names]

    # Requests from gateway to gateway

    def send(self, home: RegionCluster, request: Request, choice: ToPeer, now_s: float) -> None:
        """A gateway passes a request on; what it says of itself waits in ``home.abroad`` until it ends."""
        way_s = self._geography.round_trips.s(home.name, choice.cluster_id)
        origin = self._geography.origins[request.origin]
        request.back_s = self._geography.round_trips.s(origin, home.name) + way_s / 2
        landing = _Lands(request, request.turn, choice.cluster_id, choice.may_hold)
        self._clock.put(now_s + way_s / 2, self, landing)

    def _land(self, event: _Lands, now_s: float) -> None:
        request, home = event.request, event.request.home
        assert isinstance(home, RegionCluster)  # noqa: S101  (it was sent from there)
        if event.is_back:
            origin = self._geography.origins[request.origin]
            request.back_s = self._geography.round_trips.s(origin, home.name)
            home.returned(request, event.peer, now_s, was_refused=event.may_hold)
        elif event.peer in self._away:
            self._look_on(now_s)  # nobody is there; its gateway sees that in time
        elif not self._clusters[event.peer].receive(request, now_s, may_hold=event.may_hold):
            way_s = self._geography.round_trips.s(home.name, event.peer)
            back = _Lands(request, request.turn, event.peer, event.may_hold, is_back=True)
            self._clock.put(now_s + way_s / 2, self, back)

    # Words

    def _ask_all(self, asker: str, now_s: float) -> None:
        for asked in self._clusters:
            if asked != asker:
                self._ask(asker, asked, now_s + self._rng.uniform(0.0, ASK_EVERY_S[0]))

    def _ask(self, asker: str, asked: str, at_s: float) -> None:
        way_s = self._geography.round_trips.s(asker, asked) / 2
        self._clock.put(at_s + way_s, self, _Asked(asker, asked, self._lives[asker], at_s))

    def _answer(self, question: _Asked, now_s: float) -> None:
        if question.asked in self._away:
            if self._is_there(question):
                self._ask(question.asker, question.asked, max(now_s, question.asked_s + GIVEN_UP_S))
            return
        cluster = self._clusters[question.asked]
        word = cluster.neighbours.says(now_s) if self._looks else None
        way_s = self._geography.round_trips.s(question.asker, question.asked) / 2
        self._clock.put(now_s + way_s, self, _Answered(question, cluster.load(), word))

    def _hear(self, answer: _Answered, now_s: float) -> None:
        question = answer.question
        asker = self._clusters[question.asker]
        if not self._is_there(question):
            return
        asker.neighbours.hears(question.asked, answer.load, asked_s=question.asked_s)
        if answer.word is not None:
            asker.neighbours.sees(question.asked, answer.word, asked_s=question.asked_s, now_s=now_s)
        asker.spill(now_s)
        next_s = max(now_s, question.asked_s + self._rng.uniform(*ASK_EVERY_S))
        self._ask(question.asker, question.asked, next_s)

    def _is_there(self, question: _Asked) -> bool:
        return question.asker not in self._away and self._lives[question.asker] == question.life

    def _look_on(self, now_s: float) -> None:
        """Something happens: gateways look until all is at rest."""
        self._changed_s = now_s
        if not self._looks:
            self._looks = True
            self._clock.put(now_s, self, _Looks())

    def _look(self, now_s: float) -> None:
        is_at_rest = True
        for name, cluster in self._clusters.items():
            if name in self._away:
                continue
            gateway = cluster.neighbours
            if gateway.tick(now_s):
                self._changed_s = now_s
            for peer in gateway.lost():
                cluster.take_back(peer, self._clusters[peer], now_s)
            is_at_rest &= gateway.is_at_rest(self._away)
        self._looks = not is_at_rest or now_s - self._changed_s < _REST_S
        if self._looks:
            self._clock.put(now_s + TICK_S, self, _Looks())

    # Regions

    def _go(self, outage: Outage, now_s: float) -> None:
        """A region falls silent. Whose gateway was there asks again elsewhere as soon as the edge leads there."""
        name, cluster = outage.region, self._clusters[outage.region]
        self.is_any_out = True
        self._look_on(now_s)
        found_s = now_s + self._geography.detect_s
        self._clock.put(found_s, self, Notices(name))
        left = [request for request in cluster.go_out(outage, now_s) if request.home is cluster]
        for peer, requests in cluster.abroad.items():
            for request in requests:
                self._clusters[peer].withdraw(request, now_s)
                left.append(request)
            requests.clear()
        for request in left:
            request.turn += 1
            self._clock.put(found_s, self, _Reaches(request))

    def _return(self, outage: Outage, now_s: float) -> None:
        name, cluster = outage.region, self._clusters[outage.region]
        self.is_any_out = bool(self._away)
        self._lives[name] += 1
        cluster.come_back(outage, now_s)
        self._ask_all(name, now_s)
        self._clock.put(now_s + EDGE_CHECKS_EVERY_S, self, Reopens(name))
        self._look_on(now_s)
