"""When a drill that comes again is due."""

from datetime import datetime, time, timedelta


def next_window(after: datetime, *, every_days: int, starts_at_utc: time, last: datetime | None) -> datetime:
    """The first window's beginning after a moment; ``every_days`` after ``last``, where there was one.

    after, last: aware, in UTC
    """
    if last is None:
        first = datetime.combine(after.date(), starts_at_utc, tzinfo=after.tzinfo)
        return first if first > after else first + timedelta(days=1)
    found = last + timedelta(days=every_days)
    behind_days = max(0, (after - found).days + 1) if found <= after else 0
    return found + timedelta(days=-(-behind_days // every_days) * every_days)
