"""Advisory locks of a session, not of a transaction: none is open while a solver works."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from django.db import OperationalError, connection
from psycopg.errors import LockNotAvailable

#: First halves of the locks' keys; the second is the organization. 7301 belongs to the compilation of tables.
SOLVE_LOCK: Final = 7302
FULL_SOLVE_LOCK: Final = 7303


@contextmanager
def advisory_lock(kind: int, organization_id: UUID, *, wait_s: float = 0) -> Iterator[bool]:
    """Whether it is held within the block, waited for ``wait_s`` at most: that others have it is nobody's error."""
    key = (kind, str(organization_id))
    held = _waited(key, wait_s) if wait_s else _asked("SELECT pg_try_advisory_lock(%s, hashtext(%s))", key)
    try:
        yield held
    finally:
        if held:
            _asked("SELECT pg_advisory_unlock(%s, hashtext(%s))", key)


def _asked(sql: str, key: tuple[int, str]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(sql, key)
        return bool(cursor.fetchone()[0])


def _waited(key: tuple[int, str], wait_s: float) -> bool:
    """In turn, behind others who wait. Outside of transactions: what runs out of time would break one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{round(wait_s * 1000)}ms"])
        try:
            cursor.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", key)
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable):
                raise
            return False
        finally:
            cursor.execute("SELECT set_config('lock_timeout', '0', false)")
    return True
