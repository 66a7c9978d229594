"""One region of several in the fluid mode: what flows there, its replicas, and the agent that counts them."""

from collections.abc import Mapping
from math import inf
from random import Random

from controlplane.simulation.serving.clock import Clock
from controlplane.simulation.serving.fluid import Agent, Span, bins_of, share_above
from controlplane.simulation.serving.fluid_line import Line
from controlplane.simulation.serving.fluid_mode import Watched
from controlplane.simulation.serving.fluid_stock import RentedStock
from controlplane.simulation.serving.geography import Outage
from controlplane.simulation.serving.meter import TOLD_EVERY_S
from controlplane.simulation.serving.outcome import Moment
from controlplane.simulation.serving.outlined import Outlined
from controlplane.simulation.serving.region_cluster import Command, bounded, jurisdiction_of, peers_of
from controlplane.simulation.serving.renting_placed import Placed
from controlplane.simulation.serving.replicas import Fleet
from controlplane.simulation.serving.snapshots import REVISION, snapshot_of
from controlplane.simulation.serving.world import MOMENTS, ServingWorld, Survey
from workloadplane.autoscaling import AutoscalingPolicy, PolicyScaler
from workloadplane.routing import PeerFacts, Policy, ReplicaFacts, RequestFacts, ToPeer, pick
from workloadplane.routing.regions import RevisionLoad

_NEWCOMER = RequestFacts(None, may_forward=True)


class FluidRegion:
    """Single owner: the mode that plays it, bin by bin: ``decide``, ``line`` and ``choose``, ``flow``."""

    def __init__(
        self,
        name: str,
        world: ServingWorld,
        outlined: Outlined,
        policy: AutoscalingPolicy,
        *,
        clock: Clock,
        seen: Survey,
    ) -> None:
        """``name``: its region's, of the world's geography."""
        self.name, self._clock = name, clock
        self._out: Outage | None = None
        bins, self._bin_s = len(seen.work_s_by_step), seen.step_s
        self._world, self._outlined, self._policy = world, outlined, policy
        scaler = PolicyScaler(policy, replicas=policy.min_replicas, now=0.0)
        self._watched = Watched(scaler, seen, world.service.seats, lambda share: None)
        self.request_work_s = self._watched.request_s / world.service.seats
        self.stock = RentedStock(
            world,
            outlined,
            policy.min_replicas,
            clock=clock,
            request_s=self._watched.request_s,
            learn=self._watched.learn,
            name=name,
        )
        self.line = Line(bins, self._bin_s)
        self._agent = Agent(cold_start_s=None, concurrency_target=float(world.service.seats))
        self._every = bins_of(world.decide_every_s, self._bin_s)
        self._soon = bins_of(TOLD_EVERY_S, self._bin_s)
        self._goal = policy.min_replicas
        self.moments: list[Moment] = []
        self._moment_s = seen.end_s / MOMENTS
        self._holders = tuple(
            outlined.holders or (region.name for region in world.geography.regions if region.pools)
        )
        self._rng, self._picks = Random(f"{name}{world.seed}"), Policy()  # noqa: S311
        self._peers = peers_of(name, world.geography)
        self._left_s = self._requests_now = 0.0
        self._begin_span(0)

    @property
    def is_out(self) -> bool:
        """Whether its region is gone just now."""
        return self._out is not None

    @property
    def fleet(self) -> Fleet:
        """Its replicas, as the control plane is told of them."""
        return self.stock.fleet

    def happen(self, event: object, now_s: float) -> None:
        """A word of the control plane; one that comes to a region that is out is heard when it is back."""
        assert isinstance(event, Command)  # noqa: S101  (nothing else is put)
        if self._out is not None:
            if self._out.back_s < inf:
                self._clock.put(self._out.back_s, self, event)
            return
        self._policy = bounded(self._policy, event.lots)
        self._watched.bound(self._policy)
        if isinstance(self.stock.renter, Placed):
            self.stock.renter.bound(event.lots)
        self._holders, self._is_due = event.holders, True

    def go_out(self, outage: Outage, now_s: float) -> None:
        """Nothing is served or decided there from now on."""
        self._out = outage
        if outage.kind == "lost":
            self.stock.lose_all(now_s, outage.back_s)

    def come_back(self, now: int) -> None:
        """Its agent sees nothing of the time between."""
        self._out = None
        self._begin_span(now)
        self._is_due = True

    # Its agent

    def decide(self, now: int) -> None:
        """If it is time to."""
        span = now - self._begin
        waits = self.line.queue_s >= self.request_work_s and span % self._soon == 0
        if self.is_out or not (self._is_due or (span and (waits or span >= self._every))):
            return
        if span:
            seen = self._agent.told(
                self.stock,
                Span(
                    begin=self._begin,
                    end=now,
                    arrived_s=self._arrived_s,
                    at_hand=self._at_hand / span,
                    requests=self._requests,
                    outside=self._outside,
                ),
                waiting_s=self.line.queue_s,
                bin_s=self._bin_s,
            )
            self._goal = self._watched.step(seen).replicas
            self.stock.turn_to(self._goal, now * self._bin_s)
        self._begin_span(now)

    def _begin_span(self, now: int) -> None:
        self._begin, self._is_due = now, False
        self._arrived_s = self._at_hand = self._requests = self._outside = 0.0

    def arrive(self, work_s: float, requests: float) -> None:
        """As its agent counts: so much is to be served here, or (below 0) went elsewhere."""
        self._arrived_s += work_s
        self._requests += requests
        self._requests_now += requests

    # What flows

    @property
    def could_s(self) -> float:
        """What its replicas can do in a bin."""
        return 0.0 if self.is_out else self.stock.ready * self._bin_s

    @property
    def waiting(self) -> float:
        """Requests for which no seat is free in this bin; all there are where nobody serves."""
        over_s = self.line.queue_s - self.could_s
        return over_s / self.request_work_s if over_s >= self.request_work_s or not self.could_s else 0.0

    def load(self) -> RevisionLoad:
        """What it tells of itself."""
        seats = self.stock.ready * self._world.service.seats
        busy = min(self.could_s, self.line.queue_s) / self._bin_s
        return RevisionLoad(
            ready=self.stock.ready,
            seats=seats,
            in_flight=round(busy * self._world.service.seats),
            waiting=round(self.waiting),
            request_s=self._watched.request_s,
        )

    def choose(self, loads: Mapping[str, RevisionLoad], sent: Mapping[str, int]) -> str | None:
        """Where whoever comes last goes: a peer; None: nowhere. ``loads`` of those that are there."""
        seats = self._world.service.seats
        full = ReplicaFacts("all", REVISION, True, float(seats), max_in_flight=seats)
        replicas = (full,) if self.stock.ready else ()
        choice = pick(
            _NEWCOMER,
            snapshot_of(
                self.name,
                replicas,
                {"all": seats},
                holders=self._holders,
                jurisdiction=jurisdiction_of(self.name, self._world.geography),
                residency=self._world.geography.residency,
                peers={name: self._told_of(peer, loads, sent) for name, peer in self._peers.items()},
                here={REVISION: self.load()},
            ),
            self._picks,
            self._rng,
        )
        return choice.cluster_id if isinstance(choice, ToPeer) else None

    def _told_of(
        self, peer: PeerFacts, loads: Mapping[str, RevisionLoad], sent: Mapping[str, int]
    ) -> PeerFacts:
        name = peer.cluster_id
        return PeerFacts(
            name,
            peer.region,
            peer.jurisdiction,
            peer.rtt_ms,
            loads={REVISION: loads[name]} if name in loads else None,
            sent={REVISION: sent.get(name, 0)},
            admits="all" if name in loads else "none",
        )

    def flow(self, now: int) -> None:
        """This bin goes by."""
        before_s, requests, ready = self._left_s, self._requests_now, self.stock.ready
        done_s = self.line.serve(now, self.could_s)
        after_s = self._left_s = self.line.queue_s
        self._requests_now = 0.0
        self._note(now)
        if not self.is_out:
            self._at_hand += done_s / self._bin_s + after_s / self._watched.request_s
            share = share_above(before_s, after_s, self._world.wait_slo_s * ready)
            self._outside += max(0.0, requests) * share

    # Accounts

    def _note(self, now: int) -> None:
        """How it stands; demand is that of its own clients."""
        number = len(self.moments)
        if number < MOMENTS and now * self._bin_s >= number * self._moment_s:
            counts = (0, 0, 0) if self.is_out else (self._goal, self.stock.ready, self.stock.starting)
            demand = self._outlined.demand[number]
            self.moments.append(Moment(now * self._bin_s, demand, *map(float, counts)))

    @property
    def launches(self) -> int:
        """Replicas started, those of the beginning not among them."""
        return self.fleet.launches - self.stock.first_launches
