"""The sum of all requests through ``fluid``: what two weeks of a busy deployment are played by."""

from collections.abc import Callable, Sequence

import numpy as np
from msgspec.structs import replace

from controlplane.simulation.serving.clock import Clock
from controlplane.simulation.serving.cold_start import LaunchTimes
from controlplane.simulation.serving.fluid import FluidOutcome, Launched, play
from controlplane.simulation.serving.fluid_stock import RentedStock
from controlplane.simulation.serving.geography import outages_of
from controlplane.simulation.serving.jobs import Jobs, Site
from controlplane.simulation.serving.meter import TOLD_EVERY_S
from controlplane.simulation.serving.outcome import Moment, Outcome, Rented
from controlplane.simulation.serving.outlined import outlined_of
from controlplane.simulation.serving.policies_document import Choice
from controlplane.simulation.serving.pools import PROCUREMENTS, S_PER_H, Loss, ServingPool
from controlplane.simulation.serving.renting import Renting
from controlplane.simulation.serving.series import FloatArray
from controlplane.simulation.serving.streams import Streams
from controlplane.simulation.serving.world import MOMENTS, ServingWorld, Survey
from workloadplane.autoscaling import (
    Arriving,
    AutoscalingPolicy,
    PolicyScaler,
    ScalingPlan,
    Seen,
    cold_start_seen,
    p90_s,
)

_TELL_EVERY = 1024


class Watched:
    """The scaler; it tells how far the play is, learns cold starts as an agent does, and sees what an agent would.

    An agent's meter averages what arrives over a request's length.
    """

    def __init__(
        self,
        scaler: PolicyScaler,
        seen: Survey,
        seats: int,
        progress: Callable[[float], None],
    ) -> None:
        self._scaler = scaler
        self._end_s, self._progress = seen.end_s, progress
        self._seats, self._request_s = seats, max(seen.work_s * seats, 0.001)
        self._arriving = Arriving()
        self._learned: tuple[float, ...] = ()
        self._steps = 0

    @property
    def request_s(self) -> float:
        """How long a request takes on one of the seats."""
        return self._request_s

    def learn(self, took_s: float) -> None:
        """So long a launch took."""
        self._learned = cold_start_seen(self._learned, took_s)

    def bound(self, policy: AutoscalingPolicy) -> None:
        """From now on this one holds."""
        self._scaler.bound(policy)

    def step(self, seen: Seen) -> ScalingPlan:
        self._steps += 1
        if self._steps % _TELL_EVERY == 0:
            self._progress(min(1.0, seen.now / self._end_s))
        return self._scaler.step(self._as_an_agent(seen))

    def _as_an_agent(self, seen: Seen) -> Seen:
        work = seen.work
        if work is None or seen.concurrency is None:
            return replace(seen, cold_start_s=p90_s(self._learned))
        waiting = self._seats * work.waiting_s / self._request_s
        in_flight = min(max(0.0, seen.concurrency - waiting), float(seen.ready * self._seats))
        demand = self._arriving.demand(
            work.arrived_s,
            work.over_s,
            request_s=self._request_s,
            busy=in_flight / self._seats,
            waits=waiting >= 1,
            now=seen.now,
        )
        return replace(
            seen,
            work=replace(work, arrived_s=demand * work.over_s),
            cold_start_s=p90_s(self._learned),
        )


def play_fluid(
    world: ServingWorld,
    seen: Survey,
    choice: Choice,
    name: str,
    progress: Callable[[float], None],
) -> Outcome:
    """One policy. Its least replicas are ready at the beginning, and have taught how long a launch takes."""
    policy = choice.policy
    scaler = PolicyScaler(policy, replicas=policy.min_replicas, now=0.0)
    watched = Watched(scaler, seen, world.service.seats, progress)
    stock: Launched | RentedStock
    jobs: Jobs | None = None
    if is_rented(world):
        stock, jobs = _rented_stock(world, seen, choice, watched)
    else:
        stock = Launched(policy.min_replicas, _taught(world, policy.min_replicas, watched.learn))
    played = play(
        seen.series,
        watched,
        cold_start_s=0.0,
        wait_slo_s=world.wait_slo_s,
        decide_every_s=world.decide_every_s,
        told_every_s=TOLD_EVERY_S,
        by_seats=True,
        first_replicas=policy.min_replicas,
        concurrency_target=float(world.service.seats),
        service_s=watched.request_s,
        stock=stock,
    )
    progress(1.0)
    outcome = Outcome(
        policy=name,
        mode="fluid",
        requests=seen.requests,
        within_slo=played.within_slo,
        replica_hours=played.replica_hours,
        launches=played.launches,
        moments=_moments(played, seen),
    )
    if isinstance(stock, RentedStock):
        _tell_rent(outcome, stock, choice.renting)
    else:
        outcome.rented = _rented(world.pools, played.ready + played.starting, seen.step_s)
        outcome.usd = sum(each.usd for each in outcome.rented.values())
    if jobs is not None:
        outcome.jobs = jobs.outcomes(seen.end_s)
    return outcome


def _rented_stock(
    world: ServingWorld, seen: Survey, choice: Choice, watched: Watched
) -> tuple[RentedStock, Jobs]:
    """What is had when, with all that breaks; and who shares the pools."""
    clock, streams = Clock(), Streams(world.seed)
    stock = RentedStock(
        world,
        outlined_of(world, seen, choice.renting),
        choice.policy.min_replicas,
        clock=clock,
        request_s=watched.request_s,
        learn=watched.learn,
    )
    jobs = Jobs(world.jobs, [Site(world.geography.names[0], stock.supply)], clock)
    for outage in outages_of(world.geography, world.failures, end_s=seen.end_s, streams=streams):
        places = tuple(range(sum(pool.replicas for pool in world.pools)))
        clock.put(outage.at_s, stock, Loss(outage.at_s, outage.back_s, places, "region lost"))
    stock.count()
    return stock, jobs


def is_rented(world: ServingWorld) -> bool:
    """Whether it matters what is to be had when: some policy rents by the blend, or there are jobs."""
    return bool(world.jobs) or any(renting.kind == "blend" for renting in world.rentings.values())


def _taught(world: ServingWorld, first_replicas: int, learn: Callable[[float], None]) -> Callable[[], float]:
    """Draws launches, each of which is learned at once."""
    launches = LaunchTimes(world.cold_start, Streams(world.seed))

    def launch_s() -> float:
        took_s = launches.next_s()
        learn(took_s)
        return took_s

    for _ in range(first_replicas):
        launch_s()
    return launch_s


def _tell_rent(outcome: Outcome, stock: RentedStock, renting: Renting) -> None:
    """What was rented, once all is paid."""
    stock.close()
    tally = stock.fleet.tally
    outcome.procurement = renting.kind
    outcome.replica_hours, outcome.usd, outcome.rented = tally.replica_hours, tally.usd, tally.rented
    outcome.launches = stock.fleet.launches - stock.first_launches
    outcome.failed_launches, outcome.lost_replicas = tally.failed_launches, stock.lost_replicas
    outcome.reasons = stock.renter.reasons


def _rented(pools: Sequence[ServingPool], replicas: FloatArray, step_s: float) -> dict[str, Rented]:
    """The pools filled in their order; reserved ones are paid for whether they are used or not."""
    found, before = {kind: Rented() for kind in PROCUREMENTS}, 0
    for pool in pools:
        used_h = float(np.clip(replicas - before, 0, pool.replicas).sum()) * step_s / S_PER_H
        paid_h = pool.replicas * len(replicas) * step_s / S_PER_H
        one = found[pool.procurement]
        one.replica_hours += used_h
        one.usd += pool.usd_per_replica_h * (paid_h if pool.procurement == "reserved" else used_h)
        before += pool.replicas
    return found


def _moments(played: FluidOutcome, seen: Survey) -> list[Moment]:
    steps = len(played.ready)
    places = np.unique(np.linspace(0, steps, MOMENTS, endpoint=False).astype(np.int64))
    demand = seen.demand(len(places))
    rows = zip(
        (places * seen.step_s).tolist(),
        demand.tolist(),
        *(array[places].tolist() for array in (played.wanted, played.ready, played.starting)),
        strict=True,
    )
    return [Moment(*row) for row in rows]
