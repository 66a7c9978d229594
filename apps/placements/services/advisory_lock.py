"""Advisory locks of a session, not of a transaction: none is open while a solver works."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from django.db import connection

#: First halves of the locks' keys; the second is the organization. 7301 belongs to the compilation of tables.
SOLVE_LOCK: Final = 7302
FULL_SOLVE_LOCK: Final = 7303


@contextmanager
def advisory_lock(kind: int, organization_id: UUID) -> Iterator[bool]:
    """Whether it is held within the block: somebody else may have it, which is nobody's error."""
    key: list[int | str] = [kind, str(organization_id)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", key)
        held = bool(cursor.fetchone()[0])
    try:
        yield held
    finally:
        if held:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", key)
