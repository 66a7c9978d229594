"""Problems and plans as JSON, for storage, and the hash that ties a plan to what it saw.

Fields that a stored document lacks get their defaults, so that plans stay readable when the question grows.
"""

import hashlib
from typing import Any

import msgspec

from controlplane.placement.plan import PlacementPlan
from controlplane.placement.problem import PlacementProblem


def problem_encode(problem: PlacementProblem) -> Any:
    """The problem as JSON's own types."""
    return msgspec.to_builtins(problem)


def problem_decode(document: Any) -> PlacementProblem:
    """The problem that ``problem_encode`` was given. Raises msgspec.ValidationError on any other document."""
    return msgspec.convert(document, PlacementProblem)


def problem_sha256(problem: PlacementProblem) -> str:
    """Equal for equal problems, whatever the process."""
    return hashlib.sha256(msgspec.json.encode(problem, order="deterministic")).hexdigest()


def plan_encode(plan: PlacementPlan) -> Any:
    """The plan as JSON's own types."""
    return msgspec.to_builtins(plan)


def plan_decode(document: Any) -> PlacementPlan:
    """The plan that ``plan_encode`` was given. Raises msgspec.ValidationError on any other document."""
    return msgspec.convert(document, PlacementPlan)


def plan_sha256(plan: PlacementPlan) -> str:
    """Equal for equal plans, whatever the process."""
    return hashlib.sha256(msgspec.json.encode(plan, order="deterministic")).hexdigest()
