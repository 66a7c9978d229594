"""Several regions in the fluid mode: what flows in each, and between them.

Who leaves a region is decided by the gateway's own picker, asked for whoever comes last; bounds come from the control
plane that plays request by request. What is a model: gateways know of one another as of this moment, and of a region
that is gone as soon as it is; ways take no time but in who is late.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from math import inf

import numpy as np

from controlplane.simulation.serving.clock import Clock
from controlplane.simulation.serving.edge import (
    EDGE_CHECKS_EVERY_S,
    Edge,
    Goes,
    Notices,
    Reopens,
    Returns,
)
from controlplane.simulation.serving.fluid import spread
from controlplane.simulation.serving.fluid_line import Guests
from controlplane.simulation.serving.fluid_region import FluidRegion
from controlplane.simulation.serving.geography import Outage, outages_of
from controlplane.simulation.serving.jobs import Jobs, Site
from controlplane.simulation.serving.outcome import Outcome, RegionOutcome, rented_of, summed
from controlplane.simulation.serving.outlined import outlined_of
from controlplane.simulation.serving.plane import ControlPlane
from controlplane.simulation.serving.policies_document import Choice
from controlplane.simulation.serving.region_cluster import bounded
from controlplane.simulation.serving.series import LoadSeries
from controlplane.simulation.serving.streams import Streams
from controlplane.simulation.serving.world import ServingWorld, Survey

#: Of those that wait, such a part goes at a time, one at least; the picker is asked again after each.
_PART, _ASKED_MOST = 1 / 8, 64
_BINS_AT_ONCE = 1024


@dataclass(slots=True)
class _Count:
    """Requests of the clients to whom a region is the nearest."""

    requests: float = 0.0
    late: float = 0.0
    during: float = 0.0
    late_during: float = 0.0
    away: float = 0.0

    def add(self, requests: float, late: float, *, is_during: bool, is_away: bool = False) -> None:
        """So many more. ``is_during``: a region was lost when they came; ``is_away``: another region served them."""
        self.requests += requests
        self.late += late
        self.away += requests * is_away
        if is_during:
            self.during += requests
            self.late_during += late

    @property
    def within(self) -> float:
        """Share of all; of none: all."""
        return 1.0 - self.late / self.requests if self.requests else 1.0

    @property
    def within_during(self) -> float | None:
        """Share of those that came while a region was lost; None: none did."""
        return 1.0 - self.late_during / self.during if self.during else None

    @property
    def within_outside(self) -> float:
        """Share of those that came at any other time; of none: all."""
        requests = self.requests - self.during
        return 1.0 - (self.late - self.late_during) / requests if requests else 1.0

    @property
    def spilled(self) -> float:
        """Share of those that were served in another region than that of their clients."""
        return self.away / self.requests if self.requests else 0.0


def _together(counts: Iterable[_Count]) -> _Count:
    found = _Count()
    for each in counts:
        for field in fields(_Count):
            setattr(found, field.name, getattr(found, field.name) + getattr(each, field.name))
    return found


class FluidRegions:
    """Single owner. ``play`` once, then ``outcome``."""

    def __init__(self, world: ServingWorld, seen: Survey, choices: Sequence[Choice], name: str) -> None:
        """``choices`` of the world's clusters; ``name``: what they are called."""
        geography = world.geography
        self._world, self._seen, self._name, self._clock = world, seen, name, Clock()
        self._procurement = choices[0].renting.kind
        nearest = [geography.round_trips.nearest(one, geography.names)[0] for one in geography.origins]
        self._accounts = [geography.names.index(region) for region in nearest]
        outages = outages_of(geography, world.failures, end_s=seen.end_s, streams=Streams(world.seed))
        self._plane: ControlPlane | None = None
        if world.placement is not None:
            policy = choices[0].policy
            self._plane = ControlPlane(world, world.placement, seen, policy, outages, posture=world.posture)
        self._regions = {
            region: self._region_of(region, cluster, choice)
            for (region, cluster), choice in zip(world.clusters, choices, strict=True)
        }
        sites = [Site(one.name, one.stock.supply, partial(_is_out, one)) for one in self._regions.values()]
        self._jobs = Jobs(world.jobs, sites, self._clock)
        if self._plane is not None:
            self._plane.begin(self._regions, self._jobs.held, self._clock)
        for region in self._regions.values():
            region.stock.count()
        self._edge = Edge(geography)
        self._stuck: list[list[tuple[int, float, float]]] = [[] for _ in geography.origins]
        self._now = 0
        self._during: list[bool] = []
        for outage in outages:
            self._clock.put(outage.at_s, self, Goes(outage))
            if outage.back_s < inf:
                self._clock.put(outage.back_s, self, Returns(outage))

    def _region_of(self, region: str, cluster: ServingWorld, choice: Choice) -> FluidRegion:
        names = self._world.geography.names
        origins = [place for place, number in enumerate(self._accounts) if names[number] == region]
        outlined, policy = outlined_of(cluster, self._seen, choice.renting, origins), choice.policy
        if self._plane is not None:
            first = self._plane.command(region)
            outlined = replace(outlined, lots=first.lots, holders=first.holders)
            policy = bounded(policy, first.lots)
        return FluidRegion(region, cluster, outlined, policy, clock=self._clock, seen=self._seen)

    def play(self, progress: Callable[[float], None]) -> None:
        """All of it."""
        seen, clock, regions = self._seen, self._clock, list(self._regions.values())
        for now, rows in enumerate(self._rows()):
            self._now = now
            if clock.next_s <= now * seen.step_s:
                clock.go_on(now * seen.step_s)
                for region in regions:
                    region.stock.count()
            for region in regions:
                region.decide(now)
            self._during.append(bool(self._edge.away))
            for origin, (requests, work_s, flows_s) in enumerate(rows):
                self._arrive(origin, requests, work_s, flows_s)
            self._spill(regions)
            for region in regions:
                region.flow(now)
            if now % _BINS_AT_ONCE == 0:
                progress(now * seen.step_s / seen.end_s)
        for region in regions:
            region.stock.close()
        progress(1.0)

    def _rows(self) -> Iterator[list[list[float]]]:
        """Of each bin, by origin: requests that come, their work, and the work of all that could be done in it."""
        seen = self._seen
        request_s = max(seen.work_s * self._world.service.seats, 0.001)
        rows = np.array(
            [
                (each, work_s, spread(LoadSeries(bin_s=seen.step_s, requests=each, work_s=work_s), request_s))
                for each, work_s in zip(seen.requests_by_origin, seen.work_s_by_origin, strict=True)
            ]
        )
        for begin in range(0, rows.shape[2], _BINS_AT_ONCE):
            yield from rows[:, :, begin : begin + _BINS_AT_ONCE].transpose(2, 0, 1).tolist()

    # Clients

    def _arrive(self, origin: int, requests: float, work_s: float, flows_s: float) -> None:
        """At the nearest gateway that answers; until the edge leads to another one nowhere."""
        name = self._edge.gateway(origin)
        if name is None:
            if requests or flows_s:
                self._stuck[origin].append((self._now, flows_s, requests))
            return
        gateway, account = self._regions[name], self._accounts[origin]
        for came, left_s, waited in self._stuck[origin]:
            self._lead(gateway, account, left_s, waited, (self._now - came) * self._seen.step_s)
            gateway.arrive(left_s, waited)
        self._stuck[origin].clear()
        if flows_s or requests or work_s:
            self._lead(gateway, account, flows_s, requests, 0.0)
            gateway.arrive(work_s, requests)

    def _lead(self, gateway: FluidRegion, account: int, work_s: float, requests: float, age_s: float) -> None:
        if not age_s and self._world.geography.names[account] == gateway.name:
            gateway.line.come(self._now, work_s, requests)
        else:
            gateway.line.host(self._now, work_s, Guests(self._now, account, requests, age_s))

    # Between gateways

    def _spill(self, regions: Sequence[FluidRegion]) -> None:
        """Whoever waits at a line's end goes where the picker says, until it says: nowhere."""
        homes = [region for region in regions if not region.is_out and region.waiting]
        if not homes:
            return
        loads = {region.name: region.load() for region in regions if not region.is_out}
        for home in homes:
            sent: dict[str, int] = {}
            for _ in range(_ASKED_MOST):
                waiting = home.waiting
                peer = home.choose(loads, sent) if waiting else None
                if peer is None:
                    break
                count = min(waiting, max(1.0, waiting * _PART))
                sent[peer] = sent.get(peer, 0) + round(max(1.0, count))
                self._pass_on(home, self._regions[peer], count * home.request_work_s)

    def _pass_on(self, home: FluidRegion, peer: FluidRegion, work_s: float) -> None:
        """The last of a line go to a peer's."""
        way_s = self._world.geography.round_trips.s(home.name, peer.name) / 2
        account = self._world.geography.names.index(home.name)
        for came, gone_s, requests in home.line.leave(self._now, work_s):
            age_s = (self._now - came) * self._seen.step_s + way_s
            peer.line.host(self._now, gone_s, Guests(self._now, account, requests, age_s))
            home.arrive(-gone_s, -requests)
            peer.arrive(gone_s, requests)

    # Regions

    def happen(self, event: object, now_s: float) -> None:
        assert isinstance(event, Goes | Notices | Returns | Reopens)  # noqa: S101  (nothing else is put)
        self._edge.hear(event)
        if isinstance(event, Goes):
            self._go(event.outage, now_s)
        elif isinstance(event, Returns):
            self._regions[event.outage.region].come_back(self._now)
            self._clock.put(now_s + EDGE_CHECKS_EVERY_S, self, Reopens(event.outage.region))

    def _go(self, outage: Outage, now_s: float) -> None:
        """Whoever waits there asks again elsewhere as soon as the edge leads there."""
        name = outage.region
        region, place = self._regions[name], self._world.geography.names.index(name)
        region.go_out(outage, now_s)
        self._clock.put(now_s + self._world.geography.detect_s, self, Notices(name))
        self._stuck[place] += region.line.leave(max(0, self._now - 1), region.line.queue_s)

    # What came of it

    def outcome(self) -> Outcome:
        """Of all, and of each region."""
        seen, regions = self._seen, list(self._regions.values())
        counts = self._counts(regions)
        whole = _together(counts)
        tallies = [region.fleet.tally for region in regions]
        return Outcome(
            policy=self._name,
            mode="fluid",
            procurement=self._procurement,
            requests=seen.requests,
            within_slo=whole.within,
            replica_hours=sum(tally.replica_hours for tally in tallies),
            usd=sum(tally.usd for tally in tallies),
            launches=sum(region.launches for region in regions),
            failed_launches=sum(tally.failed_launches for tally in tallies),
            lost_replicas=sum(region.stock.lost_replicas for region in regions),
            within_slo_outside=whole.within_outside,
            within_slo_during=whole.within_during,
            spilled=whole.spilled,
            rented=rented_of([tally.rented for tally in tallies]),
            jobs=self._jobs.outcomes(seen.end_s),
            reasons=[f"{region.name}: {each}" for region in regions for each in region.stock.renter.reasons],
            moments=summed([region.moments for region in regions]),
            regions=[_region(region, count) for region, count in zip(regions, counts, strict=True)],
            placement=self._plane.outcome if self._plane is not None else None,
            broken=list(self._plane.broken) if self._plane is not None else [],
        )

    def _counts(self, regions: Sequence[FluidRegion]) -> list[_Count]:
        found = [_Count() for _ in regions]
        wait_slo_s, during = self._world.wait_slo_s, np.array(self._during)
        for number, region in enumerate(regions):
            own, late = region.line.late(wait_slo_s)
            for is_during in (False, True):
                here = during == is_during
                found[number].add(float(own[here].sum()), float(late[here].sum()), is_during=is_during)
            for guests, share in region.line.late_guests(wait_slo_s):
                came = guests.came - round(guests.age_s // self._seen.step_s)
                found[guests.account].add(
                    guests.requests,
                    guests.requests * share,
                    is_during=self._during[max(0, came)],
                    is_away=guests.account != number,
                )
        for origin, rows in enumerate(self._stuck):  # nobody ever answered them
            for came, _, requests in rows:
                account = found[self._accounts[origin]]
                account.add(requests, requests, is_during=self._during[came])
        return found


def _is_out(region: FluidRegion) -> bool:
    return region.is_out


def _region(region: FluidRegion, count: _Count) -> RegionOutcome:
    tally = region.fleet.tally
    return RegionOutcome(
        region=region.name,
        requests=round(count.requests),
        answered=round(count.requests),
        within_slo=count.within,
        within_slo_outside=count.within_outside,
        within_slo_during=count.within_during,
        spilled=count.spilled,
        not_served=0,
        replica_hours=tally.replica_hours,
        usd=tally.usd,
        launches=region.launches,
        lost_replicas=region.stock.lost_replicas,
        ejections=None,
        ttft_s_p50=None,
        ttft_s_p90=None,
        ttft_s_p99=None,
        moments=region.moments,
    )
