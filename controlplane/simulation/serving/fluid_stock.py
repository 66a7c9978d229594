"""Replicas of the fluid mode as they are rented: the same renter, supply and failures as request by request.

What is a model beyond that: who is lost leaves no stream behind that another one must read again, and who is to stop
stops at once, though it is paid for as long as its streams would take to end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from controlplane.simulation.serving.clock import Clock
from controlplane.simulation.serving.cold_start import LaunchTimes
from controlplane.simulation.serving.outlined import Outlined
from controlplane.simulation.serving.pools import Loss, Places, losses_of, stock_outs_of
from controlplane.simulation.serving.renters import renter_of
from controlplane.simulation.serving.replicas import Fleet, SimulatedReplica
from controlplane.simulation.serving.streams import Streams
from controlplane.simulation.serving.supply import Fall, Supply
from controlplane.simulation.serving.world import ServingWorld


@dataclass(frozen=True, slots=True)
class _Ready:
    replica: SimulatedReplica


@dataclass(frozen=True, slots=True)
class _Ends:
    replica: SimulatedReplica


class RentedStock:
    """See ``fluid.Stock``. Single owner: the mode that plays it; ``close`` it at the end."""

    def __init__(
        self,
        world: ServingWorld,
        outlined: Outlined,
        first_replicas: int,
        *,
        clock: Clock,
        request_s: float,
        learn: Callable[[float], None],
        name: str = "",
    ) -> None:
        """``world``: of one cluster; ``name``: what tells its chance from other clusters'.

        ``learn`` hears how long each launch took, at first of those that are there.
        """
        places, streams = Places(world.pools), Streams(world.seed, name)
        stock_outs = stock_outs_of(world.pools, end_s=outlined.end_s, streams=streams)
        self._clock, self._learn, self._request_s = clock, learn, request_s
        self.supply = Supply(places, stock_outs, outlined.spot_traces, streams)
        self.fleet = Fleet(self.supply)
        self.renter = renter_of(
            outlined.renting, self.fleet, LaunchTimes(world.cold_start, streams), outlined.lots
        )
        self.lost_replicas = 0
        self._wanted, self._end_s = first_replicas, outlined.end_s
        for loss in losses_of(places, world.failures, end_s=outlined.end_s, streams=streams):
            self._clock.put(loss.at_s, self, loss)
        for fall in self.supply.falls(outlined.end_s):
            self._clock.put(fall.at_s, self, fall)
        for replica, ready_s in self.renter.begin(first_replicas):
            replica.is_ready = True
            learn(ready_s)
        self.first_launches = self.fleet.launches
        self.ready = self.starting = 0
        self.next_s = inf
        self.count()

    def advance(self, now_s: float) -> None:
        self._clock.go_on(now_s)
        self.count()

    def lose_all(self, now_s: float, back_s: float) -> None:
        """Its region is gone until then, and all that ran there."""
        places = tuple(range(sum(pool.replicas for pool in self.supply.pools)))
        self.happen(Loss(now_s, back_s, places, "region lost"), now_s)

    def turn_to(self, wanted: int, now_s: float) -> int:
        self.advance(now_s)
        self._wanted = wanted
        turn = self.renter.turn_to(wanted, now_s)
        for replica, ready_s in turn.launched:
            self._clock.put(ready_s, self, _Ready(replica))
        for replica in turn.stopped:
            replica.is_leaving = True
            if replica.is_ready:
                self._clock.put(now_s + self._request_s, self, _Ends(replica))
            else:
                self.fleet.end(replica, now_s)
        self.count()
        return len(turn.launched)

    def happen(self, event: object, now_s: float) -> None:
        match event:
            case _Ready():
                if self.fleet.stands(event.replica):
                    event.replica.is_ready = True
                    self._learn(now_s - event.replica.launched_s)
            case _Ends():
                if self.fleet.stands(event.replica):
                    self.fleet.end(event.replica, now_s)
            case Loss() | Fall():
                self.lost_replicas += len(self.fleet.lost(self.supply.lose(event, now_s)))

    def close(self) -> None:
        """The world's end: all are paid for."""
        self._clock.go_on(self._end_s)
        self.supply.close(self.fleet.tally, self._end_s)

    def count(self) -> None:
        """Who is there, as of what has happened."""
        here = [each.is_ready for each in self.fleet.replicas.values() if not each.is_leaving]
        self.ready = sum(here)
        # As an agent's autoscaler is told: what a renter starts beyond what was wanted is none of its.
        self.starting = min(len(here) - self.ready, max(0, self._wanted - self.ready))
        self.next_s = self._clock.next_s
