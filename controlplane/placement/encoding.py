"""Problems and plans as JSON, for storage, and the hash that ties a plan to what it saw.

Fields that a stored document lacks get their defaults, so that plans stay readable when the question grows. Its hash is
that of what was stored, without them: so a certificate from before still names its problem and its plan.
"""

import hashlib
from typing import Any, Final, Literal

import msgspec

from controlplane.placement.plan import PlacementPlan
from controlplane.placement.problem import PlacementProblem

#: In ``memo``: the document that a value was read from.
_STORED: Final = "stored document"


def problem_encode(problem: PlacementProblem) -> Any:
    """The problem as JSON's own types."""
    return msgspec.to_builtins(problem)


def problem_decode(document: Any) -> PlacementProblem:
    """The problem that ``problem_encode`` was given. Raises msgspec.ValidationError on any other document."""
    problem = msgspec.convert(document, PlacementProblem)
    problem.memo[_STORED] = document
    return problem


def problem_sha256(problem: PlacementProblem) -> str:
    """Equal for equal problems, whatever the process."""
    return _sha256(problem, problem.memo.get(_STORED))


def plan_encode(plan: PlacementPlan) -> Any:
    """The plan as JSON's own types."""
    return msgspec.to_builtins(plan)


def plan_decode(document: Any) -> PlacementPlan:
    """The plan that ``plan_encode`` was given. Raises msgspec.ValidationError on any other document."""
    plan = msgspec.convert(document, PlacementPlan)
    plan.memo[_STORED] = document
    return plan


def plan_sha256(plan: PlacementPlan) -> str:
    """Equal for equal plans, whatever the process."""
    return _sha256(plan, plan.memo.get(_STORED))


def _sha256(value: PlacementProblem | PlacementPlan, stored: object) -> str:
    """Of the value as it is written now or, where it was read from a document, of those fields that this has."""
    told: object = value
    if stored is not None:
        told = _fields_of(msgspec.to_builtins(value, order="deterministic"), stored)
    order: Literal["deterministic"] | None = "deterministic" if told is value else None
    return hashlib.sha256(msgspec.json.encode(told, order=order)).hexdigest()


def _fields_of(told: Any, stored: Any) -> Any:
    """``told`` in its own order, without what ``stored`` lacks."""
    if isinstance(told, dict) and isinstance(stored, dict):
        return {name: _fields_of(value, stored[name]) for name, value in told.items() if name in stored}
    if isinstance(told, list | tuple) and isinstance(stored, list | tuple):
        return [_fields_of(*pair) for pair in zip(told, stored, strict=True)]
    return told
