"""A service is one transaction, and a violated constraint leaves it as a problem."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import transaction

from apps.api.problems import constraints_as_problems

P = ParamSpec("P")
R = TypeVar("R")


def one_transaction(service: Callable[P, R]) -> Callable[P, R]:
    """Run a service in one transaction (a savepoint inside an outer one).

    Raises Problem (``name_taken``, ``already_exists``, ``in_use``, ``invalid_document``) for violated constraints.
    """

    @wraps(service)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with constraints_as_problems(), transaction.atomic():
            return service(*args, **kwargs)

    return run
