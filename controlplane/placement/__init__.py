"""Which replicas run on which pools, what does it cost, and what does it survive?

``solve(problem) -> plan`` is the decision, ``certify(problem, plan)`` its independent judge, ``explain`` its reasons.
A problem is one consistent snapshot of an organization; a plan answers for each of its deployments, with allocations
or with a ``Refusal`` that says what would make it fit.

Pure: frozen dataclasses in and out, no clock, no randomness, no I/O. Never imports Django, ``apps`` or the rooms that
load and apply what is decided here. The certificate never imports the solver.
"""

from controlplane.placement.bill import micro_usd_per_h_at_most
from controlplane.placement.broken_rules import BrokenRule
from controlplane.placement.certificate import Certificate, DomainLoss, Loss, Promise, certify
from controlplane.placement.cost import PlanCost, plan_cost, plan_cost_of, plan_costs, priced
from controlplane.placement.diff import DeploymentDiff, Move, PlanDiff, plan_diff
from controlplane.placement.elastic import Growth, SmallestChange, smallest_change
from controlplane.placement.encoding import (
    plan_decode,
    plan_encode,
    plan_sha256,
    problem_decode,
    problem_encode,
    problem_sha256,
)
from controlplane.placement.events import touched_by
from controlplane.placement.explain import PoolReason, explain, room_left
from controlplane.placement.plan import Allocation, DeploymentPlan, PlacementPlan, TrafficShare
from controlplane.placement.problem import (
    Budget,
    Cluster,
    CurrentAssignment,
    Demand,
    DomainKind,
    FailureDomain,
    Latency,
    LossKind,
    NetworkPrice,
    Occupancy,
    PerformanceProfile,
    PlacementProblem,
    Pool,
    Posture,
    Reservation,
    Slo,
    Survivability,
    WantedDeployment,
    Weights,
)
from controlplane.placement.solver import resolve, solve
from controlplane.placement.survive import DeploymentSurvival, OriginSurvival, Start, Survival, survive

__all__ = [
    "Allocation",
    "BrokenRule",
    "Budget",
    "Certificate",
    "Cluster",
    "CurrentAssignment",
    "Demand",
    "DeploymentDiff",
    "DeploymentPlan",
    "DeploymentSurvival",
    "DomainKind",
    "DomainLoss",
    "FailureDomain",
    "Growth",
    "Latency",
    "Loss",
    "LossKind",
    "Move",
    "NetworkPrice",
    "Occupancy",
    "OriginSurvival",
    "PerformanceProfile",
    "PlacementPlan",
    "PlacementProblem",
    "PlanCost",
    "PlanDiff",
    "Pool",
    "PoolReason",
    "Posture",
    "Promise",
    "Reservation",
    "Slo",
    "SmallestChange",
    "Start",
    "Survivability",
    "Survival",
    "TrafficShare",
    "WantedDeployment",
    "Weights",
    "certify",
    "explain",
    "micro_usd_per_h_at_most",
    "plan_cost",
    "plan_cost_of",
    "plan_costs",
    "plan_decode",
    "plan_diff",
    "plan_encode",
    "plan_sha256",
    "priced",
    "problem_decode",
    "problem_encode",
    "problem_sha256",
    "resolve",
    "room_left",
    "smallest_change",
    "solve",
    "survive",
    "touched_by",
]
