"""A cluster among others: its gateway knows theirs, sends requests there and takes theirs in; and it can be lost.

What a gateway does with a request is as in ``workloadplane.gateway``'s ``relay`` and ``turns``: a newcomer goes where
``pick`` says, here or one hop away; who came from a peer is served here or not at all; those at the line's end look
again when a peer has spoken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify
from math import inf
from typing import Protocol

from controlplane.simulation.serving.clock import Clock
from controlplane.simulation.serving.cluster import Cluster
from controlplane.simulation.serving.geography import Geography, Outage
from controlplane.simulation.serving.meter import TOLD_EVERY_S
from controlplane.simulation.serving.neighbours import UNREADY_S, Neighbours
from controlplane.simulation.serving.outcome import Moment
from controlplane.simulation.serving.outlined import Outlined
from controlplane.simulation.serving.pools import Loss
from controlplane.simulation.serving.renting_placed import Placed
from controlplane.simulation.serving.replicas import SimulatedReplica
from controlplane.simulation.serving.request import PROJECT, Request
from controlplane.simulation.serving.snapshots import DEPLOYMENT, REVISION, snapshot_of
from controlplane.simulation.serving.supply import Fall
from controlplane.simulation.serving.world import MOMENTS, ServingWorld
from workloadplane.autoscaling import AutoscalingPolicy, Lot
from workloadplane.protocol.refusal import Refusal
from workloadplane.routing import (
    PeerFacts,
    ReplicaFacts,
    RequestFacts,
    Snapshot,
    ToPeer,
    ToReplica,
    pick,
)
from workloadplane.routing.prefill_speed import PrefillSpeed
from workloadplane.routing.regions import RevisionLoad

#: As ``workloadplane.gateway.turns`` has it.
SPILLED_AT_A_TIME = 64


@dataclass(frozen=True, slots=True)
class Command:
    """What a cluster hears of its control plane: the bounds of its pools, and which clusters hold the deployment."""

    lots: tuple[Lot, ...]
    holders: tuple[str, ...]


class Ways(Protocol):
    """What takes a request to a peer."""

    def send(self, home: "RegionCluster", request: Request, choice: ToPeer, now_s: float) -> None:
        """It is on its way from now on."""


class RegionCluster(Cluster):
    """See ``Cluster``. ``abroad``: requests that came here and were passed on, by peer, until they end or come back."""

    def __init__(
        self,
        name: str,
        world: ServingWorld,
        outlined: Outlined,
        policy: AutoscalingPolicy,
        *,
        clock: Clock,
    ) -> None:
        """``name``: its region's, of the world's geography."""
        self._geography = world.geography
        self._jurisdiction = jurisdiction_of(name, world.geography)
        self._holders = tuple(
            outlined.holders or (region.name for region in world.geography.regions if region.pools)
        )
        self._posture, self._lease_holds = world.posture, True
        self.neighbours = Neighbours(peers_of(name, world.geography), REVISION)
        self.abroad: dict[str, dict[Request, None]] = {peer: {} for peer in self.neighbours.facts}
        self.ways: Ways | None = None
        self._prefill = PrefillSpeed()
        self._out: Outage | None = None
        super().__init__(world, outlined, policy, clock=clock, name=name)

    def happen(self, event: object, now_s: float) -> None:
        """Nothing goes on in a region that is out; what breaks there breaks all the same."""
        if self._out is None or isinstance(event, Loss | Fall):
            if isinstance(event, Command):
                self._obey(event, now_s)
            else:
                super().happen(event, now_s)
        elif self._out.back_s < inf:
            self._clock.put(self._out.back_s, self, event)

    @property
    def is_out(self) -> bool:
        """Whether its region is gone just now."""
        return self._out is not None

    def _obey(self, command: Command, now_s: float) -> None:
        """Other bounds, and others to whom requests may go."""
        self._bounds = bounded(self._bounds, command.lots)
        self._scaler.bound(self._bounds)
        if isinstance(self.renter, Placed):
            self.renter.bound(command.lots)
        if self._posture == "active_active":  # else by its seat's table
            self._holders = command.holders
        self._place_anew()
        self._decide_by(now_s)

    def sit(self, holders: tuple[str, ...], *, lease_holds: bool, now_s: float) -> None:
        """Who serves by the table that its gateway holds (none: nobody), and whether it may go by that still."""
        if (holders, lease_holds) != (self._holders, self._lease_holds):
            self._holders, self._lease_holds = holders, lease_holds
            if self._out is None:
                self._place_anew()
                self._give_turns(now_s)

    # Requests of clients

    def arrive(self, request: Request, now_s: float) -> None:
        """At its gateway, from a client; who had begun elsewhere goes on here with its rest."""
        request.home = self
        self.resumed += request.began_s is not None
        self._enter(request, now_s)

    def returned(self, request: Request, peer: str, now_s: float, *, was_refused: bool) -> None:
        """A peer's gateway did not take it: it has nothing ready, or might have held it and may not."""
        self._come_back(request, peer)
        if was_refused:
            self._refuse(request, now_s)
        else:
            self.neighbours.unready[peer] = now_s + UNREADY_S
            self._enter(request, now_s, was_let_in=True)

    def take_back(self, peer: str, there: "RegionCluster", now_s: float) -> None:
        """The peer is lost from here: what is there goes on elsewhere."""
        for request in list(self.abroad[peer]):
            there.withdraw(request, now_s)
            request.turn += 1
            self._come_back(request, peer)
            if self._posture == "active_passive" and peer == next(iter(self._holders), None):
                self._refuse(request, now_s)  # nobody else may serve it
            else:
                self._enter(request, now_s, was_let_in=True)

    def spill(self, now_s: float) -> None:
        """A peer has spoken: whoever waits at the line's end may be served sooner there, and nobody later here."""
        for _ in range(SPILLED_AT_A_TIME):
            ticket = self._room.youngest(DEPLOYMENT)
            if ticket is None:
                return
            request = ticket.item
            choice = self._choose(request, now_s, is_next=False)
            if not isinstance(choice, ToPeer):
                return
            self._room.take(DEPLOYMENT, ticket, now_s)
            self._waiting_s -= request.work_s
            self._pass_on(request, choice, now_s)

    def _enter(self, request: Request, now_s: float, *, was_let_in: bool = False) -> None:
        self._comes(now_s)
        waits, ticket = self._room.waits(DEPLOYMENT), request.ticket
        choice = self._choose(request, now_s, is_next=False)
        # Who goes to a peer takes nobody's seat here.
        if (not waits or not isinstance(choice, ToReplica)) and self._follows(choice, request, now_s):
            if not was_let_in:
                self._room.pass_through(DEPLOYMENT, PROJECT, ticket)
        elif was_let_in:
            self._wait_again(request, now_s)
            self._decide_by(now_s + TOLD_EVERY_S)
        else:
            self._wait(request, now_s)

    def _goes(self, request: Request, now_s: float, *, is_next: bool) -> bool:
        choice = self._choose(request, now_s, is_next=is_next)
        return self._follows(choice, request, now_s)

    def _choose(self, request: Request, now_s: float, *, is_next: bool) -> object:
        self.neighbours.look(self.load, now_s)
        is_ours = request.home is self
        facts = RequestFacts(None, is_ours, prompt_bytes=request.prompt_bytes, is_next=is_next)
        return pick(facts, self._snapshot, self._policy, self._rng)

    def _follows(self, choice: object, request: Request, now_s: float) -> bool:
        match choice:
            case ToReplica():
                self._begin(request, self._by_id[choice.replica_id], now_s)
            case ToPeer():
                self._pass_on(request, choice, now_s)
            case Refusal():
                self._refuse(request, now_s)
            case _:
                return False
        return True

    def _pass_on(self, request: Request, choice: ToPeer, now_s: float) -> None:
        if request.home is not self:
            self._break("a request is passed on twice", now_s)
        self._leaves(now_s)
        self.neighbours.sends(choice.cluster_id)
        self.abroad[choice.cluster_id][request] = None
        request.turn += 1
        request.home_ticket, request.ticket = request.ticket, request.new_ticket()
        assert self.ways is not None  # noqa: S101  (set before anything is played)
        self.ways.send(self, request, choice, now_s)

    def _come_back(self, request: Request, peer: str) -> None:
        del self.abroad[peer][request]
        request.ticket = request.home_ticket

    def _leaves(self, now_s: float) -> None:
        """As agents count: what left without an answer had not come."""
        self._meter.arrived -= 1
        self._at_hand.add(-1, now_s)

    # Requests of peers

    def receive(self, request: Request, now_s: float, *, may_hold: bool) -> bool:
        """From a peer's gateway; whether it is taken: only at once unless it ``may_hold``."""
        choice = None if self._room.waits(DEPLOYMENT) else self._choose(request, now_s, is_next=False)
        if isinstance(choice, ToReplica):
            self._comes(now_s)
            self._follows(choice, request, now_s)
            self._room.pass_through(DEPLOYMENT, PROJECT, request.ticket)
        elif not may_hold or isinstance(choice, Refusal):
            return False
        else:
            self._comes(now_s)
            self._wait(request, now_s)
        return True

    def withdraw(self, request: Request, now_s: float) -> None:
        """Its gateway gives it up, or is gone: whatever it held here is free, if it held anything."""
        if request.ticket.waits:
            self._room.leave(DEPLOYMENT, request.ticket)
            self._waiting_s -= request.work_s
            self._leaves(now_s)
            return
        for replica in self.fleet.replicas.values():
            entry = next((each for each in replica.ends if each[2] is request), None)
            if entry is not None:
                replica.advance(now_s, self._service)
                request.steps = self._rest_of(request, entry[0] - replica.clock)
                replica.ends.remove(entry)
                heapify(replica.ends)
                replica.turn += 1
                self._in_flight[replica.replica_id] -= 1
                self._flying -= 1
                self._leaves(now_s)
                self._after_end(replica, now_s)
                return

    def load(self) -> RevisionLoad:
        """What it tells of itself."""
        service = self._room.service(DEPLOYMENT)
        ready = len(self._by_id)
        return RevisionLoad(
            ready=ready,
            seats=ready * self._service.seats,
            in_flight=self._flying,
            waiting=self._room.waiting(DEPLOYMENT),
            request_s=(service.request_s_mean or 0.0) if service is not None else 0.0,
            prefill_bytes_per_s=self._prefill.bytes_per_s,
        )

    def _begin(self, request: Request, replica: SimulatedReplica, now_s: float) -> None:
        residency = self._geography.residency
        if residency and self._jurisdiction not in residency:
            self._break(f"rule 2: a request is served in {self._jurisdiction or 'nowhere'}", now_s)
        if self._out is not None:
            self._break("a request is served in a region that is lost", now_s)
        if request.began_s is None and request.account.region != self.name:
            request.account.away += 1
        super()._begin(request, replica, now_s)
        first_token_s = self._service.first_token_s(request.input_tokens, len(replica.ends))
        if self._prefill.is_old(now_s):
            self._prefill = PrefillSpeed()
        self._prefill.computed(request.prompt_bytes, first_token_s, now_s)

    def _ends(self, request: Request, now_s: float) -> None:
        self._forget(request)
        super()._ends(request, now_s)

    def _refuse(self, request: Request, now_s: float) -> None:
        self._forget(request)
        super()._refuse(request, now_s)

    def _forget(self, request: Request) -> None:
        if isinstance(request.home, RegionCluster) and request.home is not self:
            del request.home.abroad[self.name][request]

    # Out and back

    def go_out(self, outage: Outage, now_s: float) -> list[Request]:
        """It falls silent; all that it held, each with what it needs for its rest."""
        left: list[Request] = []
        while (ticket := self._room.peek(DEPLOYMENT)) is not None:
            self._room.leave(DEPLOYMENT, ticket)
            left.append(ticket.item)
        self._waiting_s = 0.0
        replicas = list(self.fleet.replicas.values())
        if outage.kind == "lost":
            places = tuple(range(sum(pool.replicas for pool in self._world.pools)))
            replicas = self._lose(Loss(now_s, outage.back_s, places, "region lost"), now_s)
        for replica in replicas:
            left += self._let_go(replica, now_s)
        self._at_hand.add(-len(left), now_s)
        self._out = outage
        return left

    def come_back(self, outage: Outage, now_s: float) -> None:
        """It goes on. Its agent sees nothing of the time between."""
        self._out = None
        if outage.kind == "lost":
            self.neighbours.start(now_s)
        self._place_anew()
        self._seen_at(now_s, len(self._by_id), 0, 0)
        self._fill_moments(now_s)

    def close(self) -> None:
        """See ``Cluster``."""
        if self._out is not None:
            self._fill_moments(self._outlined.end_s)
        super().close()

    def _fill_moments(self, until_s: float) -> None:
        while len(self.moments) * self._moment_s < until_s and len(self.moments) < MOMENTS:
            number = len(self.moments)
            demand = self._outlined.demand[number]
            self.moments.append(Moment(number * self._moment_s, demand, 0.0, 0.0, 0.0, 0.0))

    def _snapshot_of(self, replicas: tuple[ReplicaFacts, ...], in_flight: Mapping[str, int]) -> Snapshot:
        neighbours = self.neighbours
        return snapshot_of(
            self.name,
            replicas,
            in_flight,
            holders=self._holders,
            jurisdiction=self._jurisdiction,
            residency=self._geography.residency,
            posture=self._posture,
            lease_holds=self._lease_holds,
            peers=neighbours.facts,
            unready=neighbours.unready.keys(),
            here=neighbours.here,
        )


def bounded(policy: AutoscalingPolicy, lots: Sequence[Lot]) -> AutoscalingPolicy:
    """Inside the bounds of these pools together."""
    return replace(
        policy,
        min_replicas=sum(lot.min_replicas for lot in lots),
        max_replicas=sum(lot.max_replicas for lot in lots),
    )


def jurisdiction_of(name: str, geography: Geography) -> str:
    """Of a region."""
    return next(region.jurisdiction for region in geography.regions if region.name == name)


def peers_of(name: str, geography: Geography) -> dict[str, PeerFacts]:
    """As a routing table has them, before anything was heard: to be trusted with sessions alone."""
    return {
        region.name: PeerFacts(
            region.name,
            region.name,
            region.jurisdiction,
            1000.0 * geography.round_trips.s(name, region.name),
            admits="sessions",
        )
        for region in geography.regions
        if region.name != name
    }
