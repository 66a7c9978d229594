"""The one clock by which leases are written and read: the database's. Those of web, worker and beat may differ."""

from datetime import datetime

from django.db import connection


def database_now() -> datetime:
    """The moment at which the database answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now
