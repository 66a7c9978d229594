"""The highest count of the last while: what keeps replicas that a moment does not need."""

#: (time, count) in order of time, those that no later one exceeds: the first is the highest.
Held = tuple[tuple[float, int], ...]


def held(past: Held, count: int, hold_s: float, now: float) -> Held:
    """The counts of the last ``hold_s`` and this one."""
    return (*((at, kept) for at, kept in past if now - at < hold_s and kept > count), (now, count))
