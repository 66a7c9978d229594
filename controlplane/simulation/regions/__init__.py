"""Do observers that watch one another find who is lost, in time and nobody else? Their rules among random faults.

``play(seed)`` makes a schedule of faults (``schedule``), plays it on virtual time with the observers of
``workloadplane.health.outlook`` (``world``), and returns what an independent checker found wrong (``checker``). The
same seed plays the same. Nothing imports it. No clock, no I/O; all chance comes from the seed.
"""

from controlplane.simulation.regions.schedule import Schedule, schedule_of
from controlplane.simulation.regions.world import Played, play

__all__ = ["Played", "Schedule", "play", "schedule_of"]
