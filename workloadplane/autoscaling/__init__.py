"""Autoscaling: how many replicas does a revision want now, inside the bounds its cluster was given?

``decide(history, state, policy)`` answers with a plan and its reasons; what the next decision must remember
is part of the plan. Two policies: ``predictive`` (the load a cold start from now) and ``kpa`` (Knative's). Pure:
frozen dataclasses, no clock (``now`` is an argument), no randomness, no I/O. ``dealt(replicas, lots)`` parts a
count among a cluster's pools. It knows nothing of processes: the agent cuts the plan to the room there is. Never
imports Django, ``apps``, ``controlplane`` or another room of this plane.
"""

from workloadplane.autoscaling.arriving import Arriving
from workloadplane.autoscaling.coldstarts import ColdStarts, cold_start_seen, p90_s
from workloadplane.autoscaling.dealing import Lot, dealt
from workloadplane.autoscaling.decide import ScalingPlan, ScalingState, decide, first_state, resumed
from workloadplane.autoscaling.history import LoadHistory, record
from workloadplane.autoscaling.policy import AutoscalingPolicy, PolicyKind
from workloadplane.autoscaling.scaler import PolicyScaler
from workloadplane.autoscaling.signals import Seen, SloSeen, WorkSeen
from workloadplane.autoscaling.tuning import PredictiveTuning
from workloadplane.autoscaling.work import TokenWork, work_seen

__all__ = [
    "Arriving",
    "AutoscalingPolicy",
    "ColdStarts",
    "LoadHistory",
    "Lot",
    "PolicyKind",
    "PolicyScaler",
    "PredictiveTuning",
    "ScalingPlan",
    "ScalingState",
    "Seen",
    "SloSeen",
    "TokenWork",
    "WorkSeen",
    "cold_start_seen",
    "dealt",
    "decide",
    "first_state",
    "p90_s",
    "record",
    "resumed",
    "work_seen",
]
