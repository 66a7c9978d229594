"""What a cluster is told of its world before it is played."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.simulation.serving.renting import Renting
from controlplane.simulation.serving.spot_trace import SpotTrace
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
