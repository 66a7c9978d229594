"""Which replicas run on which pools, what does it cost, and what does it survive?

``solve(problem) -> plan`` is the decision, ``certify(problem, plan)`` its independent judge, ``explain`` its reasons.
A problem is one consistent snapshot of an organization; a plan answers for each of its deployments, with allocations
or with a ``Refusal`` that says what would make it fit.

Here lies what everybody shares: what there is (``supply``), what is asked for (``wishes``), both as one ``problem``,
and the ``plan``. Beside it ``rules`` (what may run where, what it costs), ``greedy`` and ``search`` (who make plans),
the ``judge`` (who shares no arithmetic with them) and ``questions`` (why, what would change, what if).

Pure: frozen dataclasses in and out, no clock, no randomness, no I/O. Never imports Django, ``apps`` or the rooms that
load and apply what is decided here.
"""

from controlplane.placement.bill import micro_usd_per_h_at_most
from controlplane.placement.checks import RowError
from controlplane.placement.encoding import (
    plan_decode,
    plan_encode,
    plan_sha256,
    problem_decode,
    problem_encode,
    problem_sha256,
)
from controlplane.placement.greedy.events import newly_lacking, to_place_anew
from controlplane.placement.greedy.solver import resolve, solve
from controlplane.placement.judge.broken_rules import BrokenRule
from controlplane.placement.judge.certificate import Certificate, DomainLoss, Loss, Promise, certify
from controlplane.placement.judge.survive import DeploymentSurvival, OriginSurvival, Start, Survival, survive
from controlplane.placement.plan import Allocation, DeploymentPlan, PlacementPlan, TrafficShare
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.questions.diff import DeploymentDiff, Move, PlanDiff, plan_diff
from controlplane.placement.questions.elastic import Growth, SmallestChange, smallest_change
from controlplane.placement.questions.explain import PoolReason, explain, room_left
from controlplane.placement.rules.cost import PlanCost, plan_cost, plan_costs, priced
from controlplane.placement.supply import (
    Cluster,
    CurrentAssignment,
    DomainKind,
    FailureDomain,
    Latency,
    LossKind,
    NetworkPrice,
    Occupancy,
    PerformanceProfile,
    Pool,
    Reservation,
)
from controlplane.placement.wishes import (
    Budget,
    Demand,
    Posture,
    Slo,
    Survivability,
    WantedDeployment,
    Weights,
)

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
    "RowError",
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
    "newly_lacking",
    "plan_cost",
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
    "to_place_anew",
]
