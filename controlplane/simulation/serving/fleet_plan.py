"""What placement is asked in a fleet's day, and what of its answer changes a fleet: bounds, and who serves whom.

Runs as in production: ``solve`` at the beginning, ``to_place_anew`` and ``resolve`` at every event. One pool a cluster,
all of one machine at one price. Planned for is what usage shows (``apps.placements``): each origin's quantiles of a
day, taken over when a p95 has moved.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from controlplane.placement import (
    Cluster,
    Demand,
    FailureDomain,
    Latency,
    Occupancy,
    PerformanceProfile,
    PlacementProblem,
    Pool,
    WantedDeployment,
)
from controlplane.simulation.serving.fleet_world import (
    GPUS_PER_INSTANCE,
    JURISDICTIONS,
    FleetWorld,
)
from controlplane.simulation.serving.handover import Bounds, Outgoing
from controlplane.simulation.serving.planning import Now, Planning
from controlplane.simulation.serving.usage import Rates, taken_over

_TOKENS_PER_REQUEST = 100.0
_MACHINE = "eight-gpus"
_VERSION = "model"
_MICRO_USD_PER_H = 16_000_000
#: Round trip to the other side of the earth, and inside a region.
_FARTHEST_MS, _NEAREST_MS = 250.0, 2.0


@dataclass(frozen=True, slots=True)
class Share:
    """Of an origin's requests, so much goes to this cluster."""

    origin: int
    cluster: int
    share: float


class FleetPlanner:
    """Single owner. ``bounds`` and ``shares`` are of the plan in force."""

    def __init__(self, world: FleetWorld, rates: Rates) -> None:
        """Asks placement for the whole fleet."""
        self._world = world
        self._origins = {
            (int(deployment), int(region)): number
            for number, (deployment, region) in enumerate(
                zip(world.origin_deployment, world.origin_region, strict=True)
            )
        }
        self._planned = rates
        self._planning = Planning(self._first_problem())

    @property
    def solves(self) -> int:
        """How often placement was asked."""
        return self._planning.solves

    @property
    def placed_anew(self) -> int:
        """Deployments that it placed again, each time."""
        return self._planning.placed_anew

    @property
    def refused(self) -> int:
        """Deployments that do not get what they must have."""
        return sum(entry.refusal is not None for entry in self._planning.plan.deployments)

    @property
    def relaxed(self) -> int:
        """Deployments that some wish is not kept for: that would not survive a region's loss, above all."""
        return sum(bool(entry.relaxed) for entry in self._planning.plan.deployments)

    def bounds(self) -> Iterator[Bounds]:
        """Of every deployment in every cluster where it is to run."""
        for number, entry in enumerate(self._planning.plan.deployments):
            for row in entry.allocations:
                yield Bounds(number, int(row.pool_id), row.min_replicas, row.max_replicas, row.room_replicas)

    def shares(self) -> Iterator[Share]:
        """Whose requests go where while all is well."""
        for number, entry in enumerate(self._planning.plan.deployments):
            for row in entry.traffic:
                origin = self._origins.get((number, int(row.origin_region)))
                if origin is not None:
                    yield Share(origin, int(row.cluster_id), row.share)

    def anew(
        self,
        rates: Rates,
        up: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
        outgoing: Iterable[Outgoing] = (),
    ) -> frozenset[int]:
        """Place anew whoever is touched by what was lost or came back, by room that was left, or by demand that moved.

        Returns who is placed otherwise, or told something else.
        """
        self._planned = taken_over(self._planned, rates)
        pools = tuple(
            pool if (pool.closed == "") == there else self._pool(number, is_up=there)
            for number, (pool, there) in enumerate(
                zip(self._planning.problem.pools, up.tolist(), strict=True)
            )
        )
        occupancies = tuple(self._occupancy(row) for row in outgoing)
        now = Now(pools=pools, demands=self._demands(), occupancies=occupancies)
        return frozenset(int(each) for each in self._planning.anew(now))

    # Demand

    def _demands(self) -> tuple[Demand, ...]:
        world = self._world
        return tuple(
            Demand(
                deployment_id=f"{deployment}",
                origin_region=f"{region}",
                requests_per_s_p50=p50,
                requests_per_s_p95=p95,
                tokens_per_s_p50=p50 * _TOKENS_PER_REQUEST,
                tokens_per_s_p95=p95 * _TOKENS_PER_REQUEST,
            )
            for deployment, region, p50, p95 in zip(
                world.origin_deployment.tolist(),
                world.origin_region.tolist(),
                self._planned.p50.tolist(),
                self._planned.p95.tolist(),
                strict=True,
            )
        )

    def _occupancy(self, row: Outgoing) -> Occupancy:
        return Occupancy(
            deployment_id=f"{row.deployment}",
            pool_id=f"{row.place}",
            gpus_per_replica=int(self._world.gpus_per_replica[row.deployment]),
            replicas=row.replicas,
        )

    # Rows of the problem

    def _first_problem(self) -> PlacementProblem:
        world = self._world
        return PlacementProblem(
            organization_id="fleet",
            wanted=1,
            plan_generation=0,
            clusters=tuple(self._cluster(number) for number in range(len(world.gpus))),
            pools=tuple(self._pool(number, is_up=True) for number in range(len(world.gpus))),
            deployments=tuple(self._deployment(number) for number in range(len(world.residency))),
            demands=self._demands(),
            profiles=tuple(
                PerformanceProfile(
                    model_version_id=_VERSION,
                    instance_type_id=_MACHINE,
                    tensor_parallel=gpus,
                    requests_per_s=1.0,
                    tokens_per_s=_TOKENS_PER_REQUEST,
                    concurrency=1,
                )
                for gpus in (1, 2, 4, 8)
            ),
            latencies=tuple(self._latencies()),
        )

    def _cluster(self, number: int) -> Cluster:
        region = int(self._world.region[number])
        return Cluster(
            cluster_id=f"{number}",
            name=f"cluster {number}",
            generation=1,
            region=f"{region}",
            provider="provider",
            jurisdiction=JURISDICTIONS[self._world.jurisdiction[region]],
            failure_domains=(
                FailureDomain(kind="zone", name=f"zone {number}"),
                FailureDomain(kind="region", name=f"{region}"),
                FailureDomain(kind="provider", name="provider"),
            ),
        )

    def _pool(self, number: int, *, is_up: bool) -> Pool:
        return Pool(
            pool_id=f"{number}",
            name=f"pool {number}",
            generation=1,
            cluster_id=f"{number}",
            instance_type_id=_MACHINE,
            instance_type=_MACHINE,
            gpu_type="H100",
            gpu_vendor="nvidia",
            gpu_memory_gib=80,
            precisions=("bf16",),
            procurement="on_demand",
            gpus_per_instance=GPUS_PER_INSTANCE,
            capacity_instances=int(self._world.gpus[number]) // GPUS_PER_INSTANCE if is_up else 0,
            instance_micro_usd_per_h=_MICRO_USD_PER_H,
            closed="" if is_up else "lost",
        )

    def _deployment(self, number: int) -> WantedDeployment:
        world = self._world
        residency = int(world.residency[number])
        return WantedDeployment(
            deployment_id=f"{number}",
            name=f"deployment {number}",
            project_id="project",
            generation=1,
            revision_id=f"{number}",
            revision=1,
            model_version_id=_VERSION,
            engine="vllm",
            precision="bf16",
            weights_bytes=16 << 30,
            gpus_per_replica=int(world.gpus_per_replica[number]),
            min_replicas=2,
            max_replicas=int(world.max_replicas[number]),
            concurrency_target=1.0,
            posture="active_active",
            survivability="region" if world.survives[number] else "none",
            residency=() if residency < 0 else (JURISDICTIONS[residency],),
            priority=0,
            created_at_s=float(number),
        )

    def _latencies(self) -> Iterator[Latency]:
        regions = len(self._world.jurisdiction)
        for one in range(regions):
            for two in range(regions):
                apart = min(abs(one - two), regions - abs(one - two)) / (regions / 2)
                yield Latency(
                    origin_region=f"{one}",
                    target_region=f"{two}",
                    rtt_ms=_NEAREST_MS + apart * _FARTHEST_MS,
                )
