"""How long a cluster counts as connected after it was last heard, and how long its gateways may serve alone."""

from datetime import timedelta

#: An idle agent is heard every two seconds; three missed ones end the lease.
LEASE_TTL_S = 6.0
#: After this long without news gateways refuse what one cluster alone may serve (active_passive).
HARD_TTL_S = 8.0
#: Clocks that differ, answers on their way: added to it before another cluster may serve.
LEASE_MARGIN_S = 2.0
#: After this long unheard a cluster serves nothing by a lease any more.
SERVING_LEASE_S = HARD_TTL_S + LEASE_MARGIN_S
#: The longest that a sync's answer is held.
WAIT_S_MAX = 25.0


def wait_granted_s(wait_s: float) -> float:
    """How long an answer may be held for an agent that asks for ``wait_s``; NaN and negatives are none."""
    return min(wait_s, WAIT_S_MAX) if wait_s > 0 else 0.0


def lease_after_sync(wait_s: float) -> timedelta:
    """How long the lease runs on: the agent is silent while its answer is held."""
    return timedelta(seconds=wait_granted_s(wait_s) + LEASE_TTL_S)
