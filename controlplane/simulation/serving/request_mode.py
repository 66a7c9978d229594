"""Request by request: each through the gateway's picker and waiting room, replicas counted by the agent's autoscaler.

What runs as in production: ``routing.pick`` for every choice, ``queueing.WaitingRoom`` for who waits, in which order
and who is refused, and ``autoscaling`` for how many replicas there are. What is a model: the replica (``service``),
the launch (``cold_start``), what breaks (``pools``), and the machine between (bytes, sockets and processes take no
time).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from controlplane.simulation.kernel import Queue
from controlplane.simulation.serving.batch import Batch
from controlplane.simulation.serving.cold_start import LaunchTimes
from controlplane.simulation.serving.meter import Meter
from controlplane.simulation.serving.outcome import Durations, Moment, Outcome
from controlplane.simulation.serving.pools import Loss, Places, losses_of, stock_outs_of
from controlplane.simulation.serving.replicas import DRAIN_LIMIT_S, Fleet, SimulatedReplica
from controlplane.simulation.serving.request import NOBODY, PROJECT, Request
from controlplane.simulation.serving.streams import Streams
from controlplane.simulation.serving.world import MOMENTS, ServingWorld, Survey
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
    RevisionShare,
    Snapshot,
    ToReplica,
    arranged,
    pick,
)

#: So often a gateway tells its agent how busy it is; an agent that hears of somebody who waits decides at once.
TOLD_EVERY_S = 0.25
_CLUSTER, _DEPLOYMENT, _REVISION = "cluster", "deployment", "revision"


@dataclass(slots=True)
class _Told:
    """Requests since the last decision, by whether they waited too long."""

    inside: int = 0
    outside: int = 0


@dataclass(slots=True)
class _AtHand:
    """Requests in flight and waiting, in the mean since the last decision: gateways tell of them all the time."""

    count: int = 0
    since_s: float = 0.0
    last_s: float = 0.0
    sum_s: float = 0.0

    def add(self, count: int, now_s: float) -> None:
        self.sum_s += self.count * (now_s - self.last_s)
        self.last_s = now_s
        self.count += count

    def mean(self, now_s: float) -> float:
        """It begins anew."""
        self.add(0, now_s)
        over_s = now_s - self.since_s
        found = self.sum_s / over_s if over_s > 0 else float(self.count)
        self.since_s, self.sum_s = now_s, 0.0
        return found


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


_Event = _Decide | _Ready | _DrainOver | Loss


class RequestMode:
    """Single owner. ``play`` once, then ``outcome``."""

    def __init__(self, world: ServingWorld, seen: Survey, policy: AutoscalingPolicy, name: str) -> None:
        """``name``: what the policy is called. Its least replicas are ready at the beginning."""
        places, streams = Places(world.pools), Streams(world.seed)
        self.outcome = Outcome(policy=name, mode="request")
        self._world, self._seen, self._bounds = world, seen, policy
        self._scaler = PolicyScaler(policy, replicas=policy.min_replicas, now=0.0)
        self._service = world.service
        self._fleet = Fleet(places, stock_outs_of(world.pools, end_s=seen.end_s, streams=streams))
        self._launch_times = LaunchTimes(world.cold_start, streams)
        self._queue: Queue[_Event] = Queue()
        self._ends: list[tuple[float, int, SimulatedReplica, int]] = []
        self._next_s = 0.0
        self._number = 0
        self._room: WaitingRoom[Request] = WaitingRoom(_bounds_of(world))
        self._policy, self._rng = Policy(), Random(world.seed)  # noqa: S311  (a seed's, like all chance here)
        self._by_id: dict[str, SimulatedReplica] = {}
        self._in_flight: dict[str, int] = {}
        self._flying = 0
        self._at_hand = _AtHand()
        self._snapshot = _snapshot((), self._in_flight)
        self._waited, self._ttft = Durations(), Durations()
        self._late = 0
        self._told = _Told()
        self._meter = Meter(seen.work_s, world.service.seats)
        self._waiting_s = 0.0
        self._learned: tuple[float, ...] = ()
        self._launched = 0
        self._wanted = 0
        self._demand = seen.demand(MOMENTS).tolist()
        self._moment_s = seen.end_s / MOMENTS
        for loss in losses_of(places, world.failures, end_s=seen.end_s, streams=streams):
            self._queue.put(loss.at_s, loss)
        for _ in range(policy.min_replicas):
            replica = self._fleet.launch(0.0)
            if replica is not None:
                replica.is_ready = True
        self._launched = self._fleet.launches
        self._place_anew()
        self._decide_at_s = 0.0
        self._decide_by(world.decide_every_s)

    def play(self, batches: Iterable[Batch]) -> Iterator[float]:
        """All of it; the virtual time from batch to batch."""
        service = self._service
        for batch in batches:
            columns = (
                batch.at_s,
                batch.input_tokens,
                batch.output_tokens,
                service.prefill_steps_of(batch),
                service.work_s(batch),
            )
            for at_s, *facts in zip(*(each.tolist() for each in columns), strict=True):
                if at_s >= self._next_s:
                    self._go_on(at_s)
                self._arrive(Request(at_s, *facts), at_s)
            yield float(batch.at_s[-1])
        self._go_on(self._seen.end_s)
        self._close()

    # Time

    def _go_on(self, until_s: float) -> None:
        """All that happens up to then."""
        ends, queue = self._ends, self._queue
        while True:
            end_s = ends[0][0] if ends else queue.next_s
            if min(end_s, queue.next_s) > until_s:
                self._next_s = min(end_s, queue.next_s)
                return
            if queue.next_s <= end_s:
                event = queue.take(until_s)
                if event is None:
                    return
                self._happen(event, queue.now_s)
                continue
            at_s, _, replica, turn = heappop(ends)
            if turn == replica.turn:
                self._finish(replica, at_s)

    def _happen(self, event: _Event, now_s: float) -> None:
        match event:
            case _Decide():
                if event.at_s == self._decide_at_s:
                    self._decide(now_s)
                    every_s = TOLD_EVERY_S if self._room.waits(_DEPLOYMENT) else self._world.decide_every_s
                    self._decide_at_s = 0.0
                    self._decide_by(now_s + min(every_s, self._world.decide_every_s))
            case _Ready():
                if self._fleet.replicas.get(event.replica.place) is event.replica:
                    event.replica.is_ready = True
                    self._learned = cold_start_seen(self._learned, now_s - event.replica.launched_s)
                    self._place_anew()
                    self._give_turns(now_s)
            case _DrainOver():
                if self._fleet.replicas.get(event.replica.place) is event.replica:
                    self._end(event.replica, now_s)
                    self._go_elsewhere(event.replica, now_s)
            case Loss():
                self._lose(event, now_s)

    # Requests

    def _arrive(self, request: Request, now_s: float) -> None:
        self._meter.arrived += 1
        self._at_hand.add(1, now_s)
        if not self._room.waits(_DEPLOYMENT):
            replica = self._choose(request, is_next=False)
            if replica is not None:
                self._room.pass_through(_DEPLOYMENT, PROJECT, request.ticket)
                self._begin(request, replica, now_s)
                return
        until_s = now_s + self._world.wait_max_s
        joined = self._room.join(self._place(), request.ticket, now_s=now_s, until_s=until_s)
        if isinstance(joined, NoRoom):
            self._refuse(now_s)
            return
        self._waiting_s += request.work_s
        self._decide_by(now_s + TOLD_EVERY_S)
        if joined.displaced is not None:
            self._waiting_s -= joined.displaced.item.work_s
            self._refuse(now_s)

    def _choose(self, request: Request, *, is_next: bool) -> SimulatedReplica | None:
        facts = RequestFacts(None, False, prompt_bytes=request.prompt_bytes, is_next=is_next)
        choice = pick(facts, self._snapshot, self._policy, self._rng)
        return self._by_id[choice.replica_id] if isinstance(choice, ToReplica) else None

    def _begin(self, request: Request, replica: SimulatedReplica, now_s: float) -> None:
        replica.advance(now_s, self._service)
        self._number += 1
        replica.enter(request.steps, self._number, request)
        self._in_flight[replica.replica_id] += 1
        self._flying += 1
        if request.began_s is None:
            waited_s = now_s - request.came_s
            if waited_s > self._world.wait_slo_s:
                self._late += 1
                self._told.outside += 1
            else:
                self._told.inside += 1
            self._waited.add(waited_s)
            self._ttft.add(waited_s + self._service.first_token_s(request.input_tokens, len(replica.ends)))
        request.began_s = now_s
        self._schedule(replica)

    def _schedule(self, replica: SimulatedReplica) -> None:
        replica.turn += 1
        self._number += 1
        end_s = replica.next_s(self._service)
        heappush(self._ends, (end_s, self._number, replica, replica.turn))
        self._next_s = min(self._next_s, end_s)

    def _finish(self, replica: SimulatedReplica, now_s: float) -> None:
        replica.last_s = now_s
        request = replica.leave()
        assert isinstance(request, Request)  # noqa: S101  (nothing else enters)
        self._in_flight[replica.replica_id] -= 1
        self._flying -= 1
        self._at_hand.add(-1, now_s)
        served_s = now_s - (request.began_s or 0.0)
        self._room.settle(_DEPLOYMENT, request.ticket, request.cost, served_s, request.output_tokens)
        request.ticket.item = NOBODY  # let go of it at once, not when garbage is collected
        if replica.ends:
            self._schedule(replica)
        elif replica.is_leaving:
            self._end(replica, now_s)
        if self._room.waits(_DEPLOYMENT):
            self._give_turns(now_s)

    def _give_turns(self, now_s: float) -> None:
        while (ticket := self._room.peek(_DEPLOYMENT)) is not None:
            request = ticket.item
            if now_s - request.came_s > self._world.wait_max_s and request.began_s is None:
                self._room.leave(_DEPLOYMENT, ticket)
                self._waiting_s -= request.work_s
                self._refuse(now_s)
                continue
            replica = self._choose(request, is_next=True)
            if replica is None:
                return
            self._room.take(_DEPLOYMENT, ticket, now_s)
            self._waiting_s -= request.work_s
            self._begin(request, replica, now_s)

    def _refuse(self, now_s: float) -> None:
        self._at_hand.add(-1, now_s)
        self.outcome.not_served += 1
        self._told.outside += 1

    def _place(self) -> Place:
        ready = len(self._by_id)
        return Place(_DEPLOYMENT, PROJECT, ready * self._service.seats, ready > 0)

    # Replicas

    def _decide_by(self, at_s: float) -> None:
        """The next decision is made then, unless one is due before."""
        if not 0.0 < self._decide_at_s <= at_s:
            self._decide_at_s = at_s
            self._queue.put(at_s, _Decide(at_s))
            self._next_s = min(self._next_s, at_s)

    def _decide(self, now_s: float) -> None:
        """What an agent does every few seconds: note the load, ask, launch or stop."""
        waiting = self._room.waiting(_DEPLOYMENT)
        ready, starting = len(self._by_id), sum(1 for _ in self._fleet.starting())
        wanted = self._wanted = self._scaler.step(self._seen_at(now_s, ready, starting, waiting)).replicas
        for _ in range(wanted - ready - starting):
            replica = self._fleet.launch(now_s)
            if replica is None:
                break
            self._queue.put(now_s + self._launch_times.next_s(), _Ready(replica))
        if wanted < ready + starting:
            self._stop(self._fleet.to_stop(ready + starting - wanted), now_s)
        self._note(now_s, waiting)
        if waiting:
            self._give_turns(now_s)  # whoever has waited too long goes

    def _seen_at(self, now_s: float, ready: int, starting: int, waiting: int) -> Seen:
        """What an agent can tell its autoscaler; it begins to count anew."""
        told, self._told = self._told, _Told()
        return Seen(
            now=now_s,
            ready=ready,
            starting=starting,
            concurrency=self._at_hand.mean(now_s),
            work=self._meter.step(now_s, in_flight=self._flying, waiting_s=max(0.0, self._waiting_s)),
            slo=SloSeen(inside=told.inside, outside=told.outside),
            cold_start_s=p90_s(self._learned),
        )

    def _stop(self, replicas: list[SimulatedReplica], now_s: float) -> None:
        for replica in replicas:
            replica.is_leaving = True
            if not replica.ends:
                self._fleet.end(replica, now_s)
            else:
                self._queue.put(now_s + DRAIN_LIMIT_S, _DrainOver(replica))
        self._place_anew()

    def _end(self, replica: SimulatedReplica, now_s: float) -> None:
        self._fleet.end(replica, now_s)

    def _lose(self, loss: Loss, now_s: float) -> None:
        hit = self._fleet.lose(loss, now_s)
        self.outcome.lost_replicas += len(hit)
        if hit:
            self._place_anew()
        for replica in hit:
            self._go_elsewhere(replica, now_s)

    def _go_elsewhere(self, replica: SimulatedReplica, now_s: float) -> None:
        """Streams of a replica that is gone wait for another one; what they had said is read there as a prompt."""
        replica.advance(now_s, self._service)
        replica.turn += 1
        self._flying -= len(replica.ends)
        for end, _, request in sorted(replica.ends, key=lambda each: each[1]):
            assert isinstance(request, Request)  # noqa: S101  (nothing else enters)
            left = min(float(request.output_tokens), max(0.0, end - replica.clock))
            read = request.input_tokens + request.output_tokens - left
            request.steps = self._service.prefill_steps(read) + left
            request.ticket.had_seat = True
            self._room.give_back(self._place(), request.ticket, now_s)
            self._waiting_s += request.work_s
            self.outcome.resumed += 1
        replica.ends.clear()
        self._give_turns(now_s)

    def _place_anew(self) -> None:
        """Others take requests now."""
        serving = list(self._fleet.serving())
        self._by_id = {each.replica_id: each for each in serving}
        self._in_flight = {each.replica_id: len(each.ends) for each in self._fleet.replicas.values()}
        seats = self._service.seats
        now = [
            ReplicaFacts(each.replica_id, _REVISION, True, float(seats), max_in_flight=seats)
            for each in serving
        ]
        self._snapshot = _snapshot(arranged(self._snapshot.replicas, now, VACANT), self._in_flight)

    # Accounts

    def _note(self, now_s: float, waiting: int) -> None:
        moments = self.outcome.moments
        policy = self._bounds
        alive = len(self._by_id) + sum(1 for _ in self._fleet.starting())
        if alive > policy.max_replicas:
            self._break(f"rule 4: {alive} replicas of {policy.max_replicas} at most", now_s)
        if now_s >= len(moments) * self._moment_s and len(moments) < MOMENTS:
            ready = len(self._by_id)
            demand = self._demand[len(moments)]
            counts = (self._wanted, ready, alive - ready, waiting)
            moments.append(Moment(now_s, demand, *map(float, counts)))

    def _break(self, what: str, now_s: float) -> None:
        if not any(each.startswith(what) for each in self.outcome.broken):
            self.outcome.broken.append(f"{what} (at {now_s:.0f} s)")

    def _close(self) -> None:
        """The end: whoever still waits is judged by how long that is."""
        outcome, end_s = self.outcome, self._seen.end_s
        while (ticket := self._room.peek(_DEPLOYMENT)) is not None:
            if ticket.item.began_s is None:
                self._late += end_s - ticket.item.came_s > self._world.wait_slo_s
            self._room.leave(_DEPLOYMENT, ticket)
        self._fleet.close(end_s)
        outcome.requests = self._seen.requests
        outcome.within_slo = 1.0 - (self._late + outcome.not_served) / max(1, outcome.requests)
        outcome.replica_hours = self._fleet.replica_s / 3600.0
        outcome.usd = self._fleet.usd
        outcome.launches = self._fleet.launches - self._launched
        outcome.failed_launches = self._fleet.failed_launches
        outcome.waited_s_p99 = self._waited.percentile_s(0.99)
        outcome.ttft_s_p50 = self._ttft.percentile_s(0.5)
        outcome.ttft_s_p99 = self._ttft.percentile_s(0.99)


def _bounds_of(world: ServingWorld) -> Bounds:
    """Of requests; bodies have no bytes here."""
    count = world.waiting_max
    return Bounds(requests_max=count, bytes_max=1, project_requests_max=count, project_bytes_max=1)


def _snapshot(replicas: tuple[ReplicaFacts, ...], in_flight: dict[str, int]) -> Snapshot:
    return Snapshot(
        cluster_id=_CLUSTER,
        jurisdiction="eu",
        residency=frozenset(),
        residency_ingress="forward",
        posture="active_active",
        revisions=(RevisionShare(_REVISION, 100, (_CLUSTER,)),),
        replicas=replicas,
        peers={},
        in_flight=in_flight,
        unavailable=(),
        unready=(),
        lease_holds=True,
    )
