"""What this process counts of the agents' calls."""

from prometheus_client import Counter, Gauge

SYNCS = Counter(
    "meridian_agent_syncs",
    "Syncs answered, by what they were: heartbeat, report or the rule that refused",
    ["outcome"],
)
CALLS_REFUSED = Counter(
    "meridian_agent_calls_refused", "Agents' calls answered with a problem, by status", ["status"]
)
WAITING = Gauge("meridian_agent_syncs_waiting", "Syncs whose answer is being held until something is new")
