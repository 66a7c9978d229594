"""Who rents so as a world says."""

from collections.abc import Sequence

from controlplane.simulation.serving.cold_start import LaunchTimes
from controlplane.simulation.serving.renting import InOrder, Renter, Renting
from controlplane.simulation.serving.renting_blend import Blended
from controlplane.simulation.serving.renting_placed import Placed
from controlplane.simulation.serving.replicas import Fleet
from workloadplane.autoscaling import Lot


def renter_of(renting: Renting, fleet: Fleet, launches: LaunchTimes, lots: Sequence[Lot] = ()) -> Renter:
    """``lots``: where placement bounds pools, what it gave them at first."""
    if renting.kind == "blend":
        return Blended(fleet, launches, renting.blend)
    if renting.kind == "placed":
        return Placed(fleet, launches, lots)
    return InOrder(fleet, launches)
