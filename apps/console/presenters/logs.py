"""Replicas' logs as the deployment's page shows them."""

from dataclasses import dataclass

from apps.agents.services import LogReading

_WHY = {
    "waiting": "Asked for; its first lines come within seconds.",
    "delivered": "It has logged nothing yet.",
    "no_log": "Its cluster has kept no log of it.",
    "agent_away": "Its cluster's agent is not heard; the log comes when it is back.",
}


@dataclass(frozen=True)
class LogView:
    """One replica's log. ``why``: what there is to say besides its text; empty = nothing."""

    replica: str
    cluster: str
    state: str
    text: str
    why: str


def log_views(reading: LogReading) -> list[LogView]:
    """One for each replica, also for those that have given no line."""
    texts: dict[object, str] = {}
    for item in reading.items:
        texts[item.replica] = texts.get(item.replica, "") + item.text
    return [
        LogView(
            replica=str(source.replica)[:8],
            cluster=source.cluster,
            state=source.state,
            text=texts.get(source.replica, ""),
            why="" if source.delivery == "delivered" and source.replica in texts else _WHY[source.delivery],
        )
        for source in reading.replicas
    ]
