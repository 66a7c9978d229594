"""Autoscaling: how many replicas does a revision want now, inside the bounds its cluster was given?

``decide(history, state, policy)`` answers with a plan and its reasons; what the next decision must remember
is part of the plan. Pure: frozen dataclasses, no clock (``now`` is an argument), no randomness, no I/O. It
knows nothing of pools or processes: the agent cuts the plan to the room there is. Never imports Django,
``apps``, ``controlplane`` or another room of this plane.
"""

from workloadplane.autoscaling.decide import ScalingPlan, ScalingState, decide, first_state
from workloadplane.autoscaling.history import LoadHistory, record
from workloadplane.autoscaling.policy import AutoscalingPolicy

__all__ = [
    "AutoscalingPolicy",
    "LoadHistory",
    "ScalingPlan",
    "ScalingState",
    "decide",
    "first_state",
    "record",
]
