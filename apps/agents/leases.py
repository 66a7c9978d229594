"""How long a cluster counts as connected after it was last heard, and how long its gateways may serve alone."""

from datetime import timedelta

#: An idle agent is heard every second; six missed ones end the lease.
LEASE_TTL_S = 6.0
#: After this long without news gateways refuse what one cluster alone may serve (active_passive): the lease.
HARD_TTL_S = 6.0
#: Clocks that do not run alike; added to the lease before another cluster may serve.
LEASE_MARGIN_S = 1.0
#: After this long unheard a cluster serves nothing by a lease any more. With a look, a table on its way and gateways
#: that take it, a takeover ends within 8 s of the last call of the region that was lost.
SERVING_LEASE_S = HARD_TTL_S + LEASE_MARGIN_S
#: Who takes over was heard within this: a call that is held, and the next one.
HEARD_S = 4.0
#: The longest that a sync's answer is held.
WAIT_S_MAX = 25.0


def wait_granted_s(wait_s: float) -> float:
    """How long an answer may be held for an agent that asks for ``wait_s``; NaN and negatives are none."""
    return min(wait_s, WAIT_S_MAX) if wait_s > 0 else 0.0


def lease_after_sync(wait_s: float) -> timedelta:
    """How long the lease runs on: the agent is silent while its answer is held."""
    return timedelta(seconds=wait_granted_s(wait_s) + LEASE_TTL_S)
