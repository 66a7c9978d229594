"""How long replicas take until they serve, learned from those that this agent started."""

from collections.abc import Iterable, Mapping

from workloadplane import autoscaling
from workloadplane.agent.record import ReplicaRecord


class ColdStarts:
    """Seconds from the decision to start a replica until it was ready, by deployment."""

    def __init__(self, remembered: Mapping[str, autoscaling.ColdStarts], *, since: float) -> None:
        """``remembered``: those of a former life of this agent, which counted what was ready by ``since``."""
        self._seconds = dict(remembered)
        self._since = since
        self._noted: set[str] = set()

    def note(self, records: Iterable[ReplicaRecord]) -> None:
        """Count those that have become ready. Of one that was found running the start was not seen."""
        seen: set[str] = set()
        for record in records:
            seen.add(record.replica_id)
            ready_at, facts = record.ready_at, record.facts
            if ready_at is None or not record.start_was_seen or record.replica_id in self._noted:
                continue
            self._noted.add(record.replica_id)
            if ready_at > self._since:
                known = self._seconds.get(facts.deployment_id, ())
                took_s = ready_at - facts.created_at
                self._seconds[facts.deployment_id] = autoscaling.cold_start_seen(known, took_s)
        self._noted &= seen

    def p90_s(self, deployment_id: str) -> float | None:
        """What nine of ten starts did not exceed; None before the first."""
        return autoscaling.p90_s(self._seconds.get(deployment_id, ()))

    def kept(self, deployment_ids: Iterable[str]) -> dict[str, autoscaling.ColdStarts]:
        """What to remember of these deployments; the others are forgotten."""
        living = set(deployment_ids)
        self._seconds = {name: seconds for name, seconds in self._seconds.items() if name in living}
        return dict(self._seconds)
