"""What would happen? A world on virtual time in which the pure rooms decide, and things go wrong.

``simulate(problem, planner, incidents, end_s=...)`` plays incidents (pools, zones and regions lost, spot reclaimed,
demand moved) against a planner; after each step the rules that must always hold are checked here, outside of the code
that they judge. ``incidents_of`` makes a day of them from a seed, the same for every planner. ``serving`` plays
requests against autoscaling, routing and queueing.

Stands above everything; nothing that decides imports it. No clock, no randomness but a generator that is passed in or
a seed's, no I/O.
"""

from controlplane.simulation.incidents import CapacityLost, DemandMoved, Incident, incidents_of
from controlplane.simulation.kernel import Queue
from controlplane.simulation.run import Outcome, Planner, simulate

__all__ = [
    "CapacityLost",
    "DemandMoved",
    "Incident",
    "Outcome",
    "Planner",
    "Queue",
    "incidents_of",
    "simulate",
]
