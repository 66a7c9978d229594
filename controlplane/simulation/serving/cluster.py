"""A cluster: its gateway's picker and waiting room, its replicas, and the agent whose autoscaler counts them.

What runs as in production: ``routing.pick`` for every choice, ``queueing.WaitingRoom`` for who waits, in which order
and who is refused, and ``autoscaling`` for how many replicas there are. What is a model: the replica (``service``),
the launch (``cold_start``), what breaks (``pools``), and the machine between (bytes, sockets and processes take no
time).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from controlplane.simulation.serving.clock import Clock
from controlplane.simulation.serving.cold_start import LaunchTimes
from controlplane.simulation.serving.meter import TOLD_EVERY_S, AtHand, Meter, Told
from controlplane.simulation.serving.outcome import Moment
from controlplane.simulation.serving.outlined import Outlined
from controlplane.simulation.serving.pools import Loss, Places, losses_of, stock_outs_of
from controlplane.simulation.serving.renters import renter_of
from controlplane.simulation.serving.replicas import DRAIN_LIMIT_S, Fleet, SimulatedReplica
from controlplane.simulation.serving.request import NOBODY, PROJECT, Request
from controlplane.simulation.serving.snapshots import DEPLOYMENT, REVISION, snapshot_of
from controlplane.simulation.serving.streams import Streams
from controlplane.simulation.serving.supply import Fall, Supply
from controlplane.simulation.serving.world import MOMENTS, ServingWorld
from workloadplane.autoscaling import (
    AutoscalingPolicy,
    PolicyScaler,
    Seen,
    SloSeen,
    cold_start_seen,
    p90_s,
)
from workloadplane.gateway.queueing import Bounds, NoRoom, Place, WaitingRoom
from workloadplane.routing import (
    VACANT,
    Policy,
    ReplicaFacts,
    RequestFacts,
    Snapshot,
    ToReplica,
    arranged,
    pick,
)
from workloadplane.words import counted


@dataclass(frozen=True, slots=True)
class _Decide:
    """Void once another one is due before it."""

    at_s: float


@dataclass(frozen=True, slots=True)
class _Ready:
    replica: SimulatedReplica


@dataclass(frozen=True, slots=True)
class _DrainOver:
    replica: SimulatedReplica


class Cluster:
    """Single owner: the mode that plays it. Requests ``arrive``; ``close`` it at the end."""

    def __init__(
        self,
        world: ServingWorld,
        outlined: Outlined,
        policy: AutoscalingPolicy,
        *,
        clock: Clock,
        name: str = "",
    ) -> None:
        """Its least replicas are ready at the beginning, and have taught how long a launch takes.

        ``name``: what tells its chance from other clusters'.
        """
        places, streams = Places(world.pools), Streams(world.seed, name)
        self.name = name
        self.moments: list[Moment] = []
        self.broken: list[str] = []
        self.lost_replicas = self.resumed = 0
        stock_outs = stock_outs_of(world.pools, end_s=outlined.end_s, streams=streams)
        self._supply = Supply(places, stock_outs, outlined.spot_traces, streams)
        self.fleet = Fleet(self._supply)
        launches = LaunchTimes(world.cold_start, streams)
        self.renter = renter_of(outlined.renting, self.fleet, launches, outlined.lots)
        self._world, self._outlined, self._bounds, self._clock = world, outlined, policy, clock
        self._scaler = PolicyScaler(policy, replicas=policy.min_replicas, now=0.0)
        self._service = world.service
        self._number = 0
        self._room: WaitingRoom[Request] = WaitingRoom(_bounds_of(world))
        self._policy, self._rng = Policy(), Random(f"{name}{world.seed}" if name else world.seed)  # noqa: S311
        self._by_id: dict[str, SimulatedReplica] = {}
        self._in_flight: dict[str, int] = {}
        self._flying = 0
        self._at_hand = AtHand()
        self._snapshot = self._snapshot_of((), self._in_flight)
        self._told = Told()
        self._meter = Meter(outlined.work_s, world.service.seats)
        self._waiting_s = 0.0
        self._learned: tuple[float, ...] = ()
        self._wanted = 0
        self._moment_s = outlined.end_s / MOMENTS
        for loss in losses_of(places, world.failures, end_s=outlined.end_s, streams=streams):
            clock.put(loss.at_s, self, loss)
        for fall in self._supply.falls(outlined.end_s):
            clock.put(fall.at_s, self, fall)
        for replica, ready_s in self.renter.begin(policy.min_replicas):
            replica.is_ready = True
            self._learned = cold_start_seen(self._learned, ready_s)
        self._launched = self.fleet.launches
        self._place_anew()
        self._decide_at_s = 0.0
        self._decide_by(world.decide_every_s)

    @property
    def launches(self) -> int:
        """Replicas started, those of the beginning not among them."""
        return self.fleet.launches - self._launched

    def told(self, what: Sequence[str]) -> list[str]:
        """With whose it is, if there are others."""
        return [f"{self.name}: {each}" if self.name else each for each in what]

    def happen(self, event: object, now_s: float) -> None:
        match event:
            case _Decide():
                if event.at_s == self._decide_at_s:
                    self._decide(now_s)
                    every_s = TOLD_EVERY_S if self._room.waits(DEPLOYMENT) else self._world.decide_every_s
                    self._decide_at_s = 0.0
                    self._decide_by(now_s + min(every_s, self._world.decide_every_s))
            case _Ready():
                if self.fleet.stands(event.replica):
                    event.replica.is_ready = True
                    self._learned = cold_start_seen(self._learned, now_s - event.replica.launched_s)
                    self._place_anew()
                    self._give_turns(now_s)
            case _DrainOver():
                if self.fleet.stands(event.replica):
                    self.fleet.end(event.replica, now_s)
                    self._go_elsewhere(event.replica, now_s)
            case Loss() | Fall():
                for replica in self._lose(event, now_s):
                    self._go_elsewhere(replica, now_s)

    # Requests

    def arrive(self, request: Request, now_s: float) -> None:
        """At its gateway."""
        self._comes(now_s)
        if not self._room.waits(DEPLOYMENT) and self._goes(request, now_s, is_next=False):
            self._room.pass_through(DEPLOYMENT, PROJECT, request.ticket)
            return
        self._wait(request, now_s)

    def _comes(self, now_s: float) -> None:
        """One more is at hand."""
        self._meter.arrived += 1
        self._at_hand.add(1, now_s)

    def _wait(self, request: Request, now_s: float) -> None:
        """It waits, if it may."""
        until_s = now_s + self._world.wait_max_s
        joined = self._room.join(self._place(), request.ticket, now_s=now_s, until_s=until_s)
        if isinstance(joined, NoRoom):
            self._refuse(request, now_s)
            return
        self._waiting_s += request.work_s
        self._decide_by(now_s + TOLD_EVERY_S)
        if joined.displaced is not None:
            self._waiting_s -= joined.displaced.item.work_s
            self._refuse(joined.displaced.item, now_s)

    def _goes(self, request: Request, now_s: float, *, is_next: bool) -> bool:
        """Whether there is anywhere to go for it; if so it is there."""
        facts = RequestFacts(None, False, prompt_bytes=request.prompt_bytes, is_next=is_next)
        choice = pick(facts, self._snapshot, self._policy, self._rng)
        if not isinstance(choice, ToReplica):
            return False
        self._begin(request, self._by_id[choice.replica_id], now_s)
        return True

    def _begin(self, request: Request, replica: SimulatedReplica, now_s: float) -> None:
        replica.advance(now_s, self._service)
        self._number += 1
        replica.enter(request.steps, self._number, request)
        self._in_flight[replica.replica_id] += 1
        self._flying += 1
        if request.began_s is None:
            waited_s = now_s - request.came_s + request.back_s
            if waited_s > self._world.wait_slo_s:
                request.account.is_late(request)
                self._told.outside += 1
            else:
                self._told.inside += 1
            first_token_s = self._service.first_token_s(request.input_tokens, len(replica.ends))
            request.account.begins(waited_s, first_token_s)
        request.began_s = now_s
        self._schedule(replica)

    def _schedule(self, replica: SimulatedReplica) -> None:
        replica.turn += 1
        self._clock.put_end(replica.next_s(self._service), replica, self)

    def finish(self, replica: SimulatedReplica, now_s: float) -> None:
        """The request in it that ends next has ended."""
        replica.last_s = now_s
        request = replica.leave()
        assert isinstance(request, Request)  # noqa: S101  (nothing else enters)
        self._in_flight[replica.replica_id] -= 1
        self._flying -= 1
        self._at_hand.add(-1, now_s)
        served_s = now_s - (request.began_s or 0.0)
        self._room.settle(DEPLOYMENT, request.ticket, request.cost, served_s, request.output_tokens)
        self._ends(request, now_s)
        request.ticket.item = NOBODY  # let go of it at once, not when garbage is collected
        self._after_end(replica, now_s)

    def _after_end(self, replica: SimulatedReplica, now_s: float) -> None:
        """One less is in it."""
        if replica.ends:
            self._schedule(replica)
        elif replica.is_leaving:
            self.fleet.end(replica, now_s)
        if self._room.waits(DEPLOYMENT):
            self._give_turns(now_s)

    def _give_turns(self, now_s: float) -> None:
        while (ticket := self._room.peek(DEPLOYMENT)) is not None:
            request = ticket.item
            if now_s - request.came_s > self._world.wait_max_s and request.began_s is None:
                self._room.leave(DEPLOYMENT, ticket)
                self._waiting_s -= request.work_s
                self._refuse(request, now_s)
                continue
            if not self._goes(request, now_s, is_next=True):
                return
            self._room.take(DEPLOYMENT, ticket, now_s)
            self._waiting_s -= request.work_s

    def _ends(self, request: Request, now_s: float) -> None:
        """It is answered whole."""
        if request.is_over:
            self._break("a request ends twice", now_s)
        request.is_over = True
        request.account.ended += 1

    def _refuse(self, request: Request, now_s: float) -> None:
        self._at_hand.add(-1, now_s)
        request.account.refuses(request)
        self._told.outside += 1

    def _place(self) -> Place:
        ready = len(self._by_id)
        return Place(DEPLOYMENT, PROJECT, ready * self._service.seats, ready > 0)

    # Replicas

    def _decide_by(self, at_s: float) -> None:
        """The next decision is made then, unless one is due before."""
        if not 0.0 < self._decide_at_s <= at_s:
            self._decide_at_s = at_s
            self._clock.put(at_s, self, _Decide(at_s))

    def _decide(self, now_s: float) -> None:
        """What an agent does every few seconds: note the load, ask, launch or stop."""
        waiting = self._room.waiting(DEPLOYMENT)
        ready, starting = len(self._by_id), sum(1 for _ in self.fleet.starting())
        wanted = self._wanted = self._scaler.step(self._seen_at(now_s, ready, starting, waiting)).replicas
        turn = self.renter.turn_to(wanted, now_s)
        for replica, ready_s in turn.launched:
            self._clock.put(ready_s, self, _Ready(replica))
        if turn.stopped:
            self._stop(turn.stopped, now_s)
        self._note(now_s, waiting)
        if waiting:
            self._give_turns(now_s)  # whoever has waited too long goes

    def _seen_at(self, now_s: float, ready: int, starting: int, waiting: int) -> Seen:
        """What an agent can tell its autoscaler; it begins to count anew."""
        told, self._told = self._told, Told()
        return Seen(
            now=now_s,
            ready=ready,
            # What a renter starts beyond what was wanted is none of its: it would take it for wanted, and want more.
            starting=min(starting, max(0, self._wanted - ready)),
            concurrency=self._at_hand.mean(now_s),
            work=self._meter.step(now_s, in_flight=self._flying, waiting_s=max(0.0, self._waiting_s)),
            slo=SloSeen(inside=told.inside, outside=told.outside),
            cold_start_s=p90_s(self._learned),
        )

    def _stop(self, replicas: Sequence[SimulatedReplica], now_s: float) -> None:
        for replica in replicas:
            replica.is_leaving = True
            if not replica.ends:
                self.fleet.end(replica, now_s)
            else:
                self._clock.put(now_s + DRAIN_LIMIT_S, self, _DrainOver(replica))
        self._place_anew()

    def _lose(self, loss: Loss | Fall, now_s: float) -> list[SimulatedReplica]:
        """Who was hit; what is in them goes elsewhere, or nowhere."""
        hit = self.fleet.lost(self._supply.lose(loss, now_s))
        self.lost_replicas += len(hit)
        if hit:
            self._place_anew()
        return hit

    def _go_elsewhere(self, replica: SimulatedReplica, now_s: float) -> None:
        """Streams of a replica that is gone wait for another one; what they had said is read there as a prompt."""
        for request in self._let_go(replica, now_s):
            self._wait_again(request, now_s)
        self._give_turns(now_s)

    def _let_go(self, replica: SimulatedReplica, now_s: float) -> list[Request]:
        """All that are in it, each with what it needs for its rest."""
        replica.advance(now_s, self._service)
        replica.turn += 1
        self._flying -= len(replica.ends)
        left: list[Request] = []
        for end, _, request in sorted(replica.ends, key=lambda each: each[1]):
            assert isinstance(request, Request)  # noqa: S101  (nothing else enters)
            request.steps = self._rest_of(request, end - replica.clock)
            left.append(request)
        replica.ends.clear()
        return left

    def _rest_of(self, request: Request, steps: float) -> float:
        """Steps of what is left of it after so many less, elsewhere."""
        left = min(float(request.output_tokens), max(0.0, steps))
        read = request.input_tokens + request.output_tokens - left
        return self._service.prefill_steps(read) + left

    def _wait_again(self, request: Request, now_s: float) -> None:
        """It was let in before: bounds are not asked."""
        if request.began_s is not None:
            request.ticket.had_seat = True
            self.resumed += 1
        self._room.give_back(self._place(), request.ticket, now_s)
        self._waiting_s += request.work_s

    def _place_anew(self) -> None:
        """Others take requests now."""
        serving = list(self.fleet.serving())
        self._by_id = {each.replica_id: each for each in serving}
        self._in_flight = {each.replica_id: len(each.ends) for each in self.fleet.replicas.values()}
        seats = self._service.seats
        now = [
            ReplicaFacts(each.replica_id, REVISION, True, float(seats), max_in_flight=seats)
            for each in serving
        ]
        replicas = arranged(self._snapshot.replicas, now, VACANT)
        self._snapshot = self._snapshot_of(replicas, self._in_flight)

    def _snapshot_of(self, replicas: tuple[ReplicaFacts, ...], in_flight: Mapping[str, int]) -> Snapshot:
        """As the picker sees it."""
        return snapshot_of(self.name, replicas, in_flight, holders=(self.name,))

    # Accounts

    def _note(self, now_s: float, waiting: int) -> None:
        moments, policy = self.moments, self._bounds
        alive = len(self._by_id) + sum(1 for _ in self.fleet.starting())
        if alive - self.renter.spare > policy.max_replicas:
            self._break(f"rule 4: {counted(alive, 'replica')} of {policy.max_replicas} at most", now_s)
        if now_s >= len(moments) * self._moment_s and len(moments) < MOMENTS:
            ready = len(self._by_id)
            demand = self._outlined.demand[len(moments)]
            counts = (self._wanted, ready, alive - ready, waiting)
            moments.append(Moment(now_s, demand, *map(float, counts)))

    def _break(self, what: str, now_s: float) -> None:
        if not any(each.startswith(what) for each in self.broken):
            self.broken.append(f"{what} (at {now_s:.0f} s)")

    def close(self) -> None:
        """The end: whoever still waits is judged by how long that is."""
        end_s = self._outlined.end_s
        while (ticket := self._room.peek(DEPLOYMENT)) is not None:
            request = ticket.item
            if request.began_s is None and end_s - request.came_s > self._world.wait_slo_s:
                request.account.is_late(request)
            self._room.leave(DEPLOYMENT, ticket)
        self._supply.close(self.fleet.tally, end_s)


def _bounds_of(world: ServingWorld) -> Bounds:
    """Of requests; bodies have no bytes here."""
    count = world.waiting_max
    return Bounds(requests_max=count, bytes_max=1, project_requests_max=count, project_bytes_max=1)
