"""Load, decide, apply, until nothing newer is wanted."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import connection
from django.utils import timezone

from apps.api.services.doorbell_ring import doorbell_ring
from apps.placements import selectors
from apps.placements.services.placement_apply import placement_apply
from apps.placements.services.placement_decide import placement_decide
from apps.placements.services.placement_load import placement_load
from apps.placements.services.placement_request import SOLVE_TASK

_SOLVE_LOCK = 7302  # the first half of the advisory lock's key; the second is the organization
ROUNDS_MAX = 20
FRUITLESS_ROUNDS_MAX = 3


def placements_solve(*, organization_id: UUID) -> int:
    """Bring an organization's placement up to what is wanted; how many rounds that took.

    May run twice, late, or beside itself: one holder of the lock solves, another leaves at once, and whoever holds the
    lock looks again after giving it back, so that no wish falls between them. After ``ROUNDS_MAX`` rounds in an ever
    changing world it makes room for others in the queue and rings again; after ``FRUITLESS_ROUNDS_MAX`` in which the
    world overtook everything it leaves the rest to the periodic reconciliation.
    """
    rounds, fruitless = 0, 0
    while _behind(organization_id):
        with _solve_lock(organization_id) as held:
            if not held:
                return rounds
            while _behind(organization_id):
                if fruitless == FRUITLESS_ROUNDS_MAX:
                    return rounds
                if rounds == ROUNDS_MAX:
                    doorbell_ring(SOLVE_TASK, str(organization_id))
                    return rounds
                rounds += 1
                problem = placement_load(organization_id=organization_id, now=timezone.now())
                adoption = placement_apply(decision=placement_decide(problem=problem))
                fruitless = fruitless + 1 if adoption.stale and not adoption.adopted else 0
    return rounds


def _behind(organization_id: UUID) -> bool:
    clock = selectors.clock(organization_id=organization_id)
    return clock is not None and clock.solved < clock.wanted


@contextmanager
def _solve_lock(organization_id: UUID) -> Iterator[bool]:
    """A lock of the session, not of a transaction: none is open while the solver works."""
    key: list[int | str] = [_SOLVE_LOCK, str(organization_id)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", key)
        held = bool(cursor.fetchone()[0])
    try:
        yield held
    finally:
        if held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", key)
