"""What a cluster is told of its world before it is played."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.simulation.serving.renting import Renting
from controlplane.simulation.serving.spot_trace import SpotTrace
from controlplane.simulation.serving.world import MOMENTS, ServingWorld, Survey
from workloadplane.autoscaling import Lot


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlined:
    """Of one cluster.

    end_s:    when it ends
    work_s:   replica-seconds of a mean request
    demand:   replicas that the work of this cluster's clients keeps busy, moment by moment
    renting:  from which pools it is served; ``spot_traces`` of those that have one, by name
    lots:     where placement bounds pools, what it gave them at first; ``holders``: and which regions at all
    """

    end_s: float
    work_s: float
    demand: Sequence[float]
    renting: Renting = field(default_factory=Renting)
    lots: Sequence[Lot] = ()
    holders: Sequence[str] = ()
    spot_traces: Mapping[str, SpotTrace] = field(default_factory=dict)


def outlined_of(
    cluster: ServingWorld, seen: Survey, renting: Renting, origins: Sequence[int] | None = None
) -> Outlined:
    """``origins``: of the clients to whom a cluster is the nearest; None: of all."""
    return Outlined(
        end_s=seen.end_s,
        work_s=seen.work_s,
        demand=seen.demand(MOMENTS, origins).tolist(),
        renting=renting,
        spot_traces={
            pool.name: seen.spot_traces[pool.spot_trace]
            for pool in cluster.pools
            if pool.spot_trace is not None
        },
    )
