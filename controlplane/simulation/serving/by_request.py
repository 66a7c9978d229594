"""Request by request: each through the gateway's picker and waiting room, replicas counted by the agent's autoscaler.

A world without regions is one ``Cluster``; with several each is one, and ``Between`` is what they have to do with one
another.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from controlplane.simulation.serving.accounts import Account, together
from controlplane.simulation.serving.batch import Batch
from controlplane.simulation.serving.between import Between
from controlplane.simulation.serving.clock import Clock
from controlplane.simulation.serving.cluster import Cluster
from controlplane.simulation.serving.geography import Geography, Outage, outages_of
from controlplane.simulation.serving.jobs import Jobs, Site
from controlplane.simulation.serving.outcome import Outcome, RegionOutcome, rented_of, summed
from controlplane.simulation.serving.outlined import outlined_of
from controlplane.simulation.serving.plane import ControlPlane
from controlplane.simulation.serving.policies_document import Choice
from controlplane.simulation.serving.pools import Loss
from controlplane.simulation.serving.region_cluster import RegionCluster, bounded
from controlplane.simulation.serving.request import Request
from controlplane.simulation.serving.seats import Seats
from controlplane.simulation.serving.streams import Streams
from controlplane.simulation.serving.world import ServingWorld, Survey


class RequestMode:
    """Single owner. ``play`` once, then ``outcome``."""

    def __init__(self, world: ServingWorld, seen: Survey, choices: Sequence[Choice], name: str) -> None:
        """``choices`` of the world's clusters; ``name``: what they are called."""
        geography = world.geography
        self._world, self._seen, self._name, self._clock = world, seen, name, Clock()
        nearest = [geography.round_trips.nearest(origin, geography.names)[0] for origin in geography.origins]
        self._accounts = {region: Account(region) for region in geography.names}
        self._by_origin = [self._accounts[region] for region in nearest]
        self._away_s = [
            geography.round_trips.s(origin, region)
            for origin, region in zip(geography.origins, nearest, strict=True)
        ]
        outages = outages_of(geography, world.failures, end_s=seen.end_s, streams=Streams(world.seed))
        self._between: Between | None = None
        self._plane: ControlPlane | None = None
        self._seats: Seats | None = None
        self._procurement = choices[0].renting.kind
        self._clusters: list[Cluster] = []
        if len(geography.names) == 1:
            self._jobs = self._one_cluster(choices[0], outages)
        else:
            self._jobs = self._many_clusters(choices, nearest, outages)

    def _one_cluster(self, choice: Choice, outages: Sequence[Outage]) -> Jobs:
        """One cluster, whose gateway stays whatever is lost: there is no other one."""
        world, clock = self._world, self._clock
        ((_, only),) = world.clusters
        cluster = Cluster(only, outlined_of(only, self._seen, choice.renting), choice.policy, clock=clock)
        self._clusters.append(cluster)
        room = sum(pool.replicas for pool in only.pools)
        for outage in outages:
            loss = Loss(outage.at_s, outage.back_s, tuple(range(room)), "region lost")
            clock.put(outage.at_s, cluster, loss)
        return Jobs(world.jobs, [Site(world.geography.names[0], cluster.fleet.supply)], clock)

    def _many_clusters(
        self, choices: Sequence[Choice], nearest: Sequence[str], outages: tuple[Outage, ...]
    ) -> Jobs:
        """``nearest``: each origin's region. With a control plane where placement bounds them."""
        world, seen, clock, plane = self._world, self._seen, self._clock, None
        if world.placement is not None:
            plane = ControlPlane(
                world, world.placement, seen, choices[0].policy, outages, posture=world.posture
            )
        clusters = {}
        for (region, cluster), choice in zip(world.clusters, choices, strict=True):
            origins = [place for place, found in enumerate(nearest) if found == region]
            outlined, policy = outlined_of(cluster, seen, choice.renting, origins), choice.policy
            if plane is not None:
                first = plane.command(region)
                outlined = replace(outlined, lots=first.lots, holders=first.holders)
                policy = bounded(policy, first.lots)
            clusters[region] = RegionCluster(region, cluster, outlined, policy, clock=clock)
        self._plane = plane
        self._clusters.extend(clusters.values())
        self._between = Between(
            world.geography, clusters, outages, clock=clock, seed=world.seed, wait_max_s=world.wait_max_s
        )
        sites = [Site(name, each.fleet.supply, partial(_is_out, each)) for name, each in clusters.items()]
        jobs = Jobs(world.jobs, sites, clock)
        if plane is not None:
            plane.begin(clusters, jobs.held, clock)
        if world.posture == "active_passive":
            order = plane.order if plane is not None else partial(_holding, world.geography)
            self._seats = Seats(order, clusters, outages, world.plane_lost, clock=clock, seed=world.seed)
        return jobs

    def play(self, batches: Iterable[Batch]) -> Iterator[float]:
        """All of it; the virtual time from batch to batch."""
        service = self._world.service
        for batch in batches:
            columns = (
                batch.at_s,
                batch.input_tokens,
                batch.output_tokens,
                service.prefill_steps_of(batch),
                service.work_s(batch),
            )
            rows = zip(*(each.tolist() for each in columns), strict=True)
            if self._between is None:
                self._alone(rows, batch)
            else:
                self._among_others(rows, batch, self._between)
            yield float(batch.at_s[-1])
        self._clock.go_on(self._seen.end_s)
        for cluster in self._clusters:
            cluster.close()
        if self._seats is not None:
            self._seats.close(self._seen.end_s)

    def outcome(self) -> Outcome:
        """What came of it."""
        all_of, clusters = together(self._accounts.values()), self._clusters
        rented = rented_of([each.fleet.tally.rented for each in clusters])
        is_alone = self._between is None
        return Outcome(
            policy=self._name,
            mode="request",
            procurement=self._procurement,
            requests=all_of.requests,
            within_slo=all_of.within_slo,
            replica_hours=sum(each.fleet.tally.replica_hours for each in clusters),
            usd=sum(each.fleet.tally.usd for each in clusters),
            launches=sum(each.launches for each in clusters),
            failed_launches=sum(each.fleet.tally.failed_launches for each in clusters),
            lost_replicas=sum(each.lost_replicas for each in clusters),
            resumed=sum(each.resumed for each in clusters),
            not_served=all_of.not_served,
            waited_s_p99=all_of.waited.percentile_s(0.99),
            ttft_s_p50=all_of.ttft.percentile_s(0.5),
            ttft_s_p90=all_of.ttft.percentile_s(0.9),
            ttft_s_p99=all_of.ttft.percentile_s(0.99),
            within_slo_outside=None if is_alone else all_of.within_slo_outside,
            within_slo_during=all_of.within_slo_during,
            spilled=None if is_alone else all_of.spilled,
            rented=rented,
            jobs=self._jobs.outcomes(self._seen.end_s),
            reasons=[reason for each in clusters for reason in each.told(each.renter.reasons)],
            moments=clusters[0].moments if is_alone else summed([each.moments for each in clusters]),
            regions=[] if is_alone else [self._region(each) for each in clusters],
            placement=self._plane.outcome if self._plane is not None else None,
            seats=self._seats.outcome if self._seats is not None else None,
            broken=[
                *(rule for each in clusters for rule in each.told(each.broken)),
                *(self._plane.broken if self._plane is not None else ()),
                *(self._seats.broken if self._seats is not None else ()),
            ],
        )

    def _region(self, cluster: Cluster) -> RegionOutcome:
        account = self._accounts[cluster.name]
        return RegionOutcome(
            region=cluster.name,
            requests=account.requests,
            answered=account.ended,
            within_slo=account.within_slo,
            within_slo_outside=account.within_slo_outside,
            within_slo_during=account.within_slo_during,
            spilled=account.spilled,
            not_served=account.not_served,
            replica_hours=cluster.fleet.tally.replica_hours,
            usd=cluster.fleet.tally.usd,
            launches=cluster.launches,
            lost_replicas=cluster.lost_replicas,
            ejections=self._between.ejections(cluster.name) if self._between is not None else 0,
            ttft_s_p50=account.ttft.percentile_s(0.5),
            ttft_s_p90=account.ttft.percentile_s(0.9),
            ttft_s_p99=account.ttft.percentile_s(0.99),
            moments=cluster.moments,
        )

    def _alone(self, rows: Iterable[tuple[Any, ...]], batch: Batch) -> None:
        """All to the one cluster that there is."""
        clock, cluster, account = self._clock, self._clusters[0], self._by_origin[0]
        account.requests += len(batch)
        for number, (at_s, *facts) in enumerate(rows):
            if at_s >= clock.next_s:
                clock.go_on(at_s)
            request = Request(at_s, *facts, account=account)
            if batch.origin is not None:
                request.back_s = self._away_s[batch.origin[number]]
            cluster.arrive(request, at_s)

    def _among_others(self, rows: Iterable[tuple[Any, ...]], batch: Batch, between: Between) -> None:
        """Each to the gateway that its client comes to."""
        clock, by_origin = self._clock, self._by_origin
        origins = [] if batch.origin is None else batch.origin.tolist()
        for (at_s, *facts), origin in zip(rows, origins, strict=True):
            if at_s >= clock.next_s:
                clock.go_on(at_s)
            account = by_origin[origin]
            account.requests += 1
            account.during += between.is_any_out
            request = Request(at_s, *facts, account=account, origin=origin, is_during=between.is_any_out)
            between.reach(request, at_s)


def _holding(geography: Geography) -> tuple[str, ...]:
    """Regions as the world lists them, where something may run."""
    return tuple(region.name for region in geography.regions if region.pools)


def _is_out(cluster: RegionCluster) -> bool:
    return cluster.is_out
