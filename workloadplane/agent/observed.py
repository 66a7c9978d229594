"""What the control plane has been told, and what it must be told next.

A delta is against the last state that the control plane acknowledged; the first of an agent's life is full.
A delta that was lost, or stored though its answer was lost, is simply followed by another against the same base.
"""

from collections.abc import Iterable, Mapping

import msgspec

from workloadplane.protocol.observed import (
    ClusterFacts,
    ObservedCondition,
    ObservedDelta,
    ObservedReplica,
    observed_hash,
)


class ObservedTracker:
    """The observed state, its generation, and the base that the control plane holds."""

    def __init__(self, generation: int) -> None:
        """``generation``: the last one used before; it only rises."""
        self.generation = generation
        self._replicas: dict[str, ObservedReplica] = {}
        self._conditions: tuple[ObservedCondition, ...] = ()
        self._facts: ClusterFacts | None = None
        self._base: dict[str, ObservedReplica] | None = None
        self._acknowledged_generation = -1
        self._sent: tuple[int, dict[str, ObservedReplica]] | None = None

    @property
    def replicas(self) -> Mapping[str, ObservedReplica]:
        return self._replicas

    @property
    def has_news(self) -> bool:
        """Whether the control plane has not acknowledged the newest state."""
        return self._facts is not None and (
            self._base is None or self._acknowledged_generation < self.generation
        )

    def update(
        self,
        replicas: Iterable[ObservedReplica],
        conditions: tuple[ObservedCondition, ...],
        facts: ClusterFacts,
    ) -> bool:
        """Take the present state; whether it differs from the last in more than amounts and times."""
        current = {replica.replica_id: replica for replica in replicas}
        changed = (
            self._facts is None
            or current != self._replicas
            or conditions != self._conditions
            or _lasting(facts) != _lasting(self._facts)
        )
        self._replicas, self._conditions, self._facts = current, conditions, facts
        if changed:
            self.generation += 1
        return changed

    def next_delta(self) -> ObservedDelta | None:
        """What to send now; None when nothing is new."""
        if not self.has_news or self._facts is None:
            return None
        base = self._base
        changed = [r for r in self._replicas.values() if base is None or base.get(r.replica_id) != r]
        gone = () if base is None else tuple(sorted(base.keys() - self._replicas.keys()))
        self._sent = (self.generation, self._replicas)
        return ObservedDelta(
            observed_generation=self.generation,
            full=base is None,
            replicas=tuple(changed),
            gone=gone,
            conditions=self._conditions,
            facts=self._facts,
            state_hash=observed_hash(self._replicas),
        )

    def acknowledge(self, generation: int, *, full_wanted: bool) -> None:
        """What an answer said that the control plane now holds. If that is less than it held before, as after
        a back-up was restored, or not what we think, it gets everything again.
        """
        if full_wanted or generation < self._acknowledged_generation:
            self._base, self._acknowledged_generation = None, -1
            return
        if self._sent is not None and generation == self._sent[0]:
            self._acknowledged_generation, self._base = self._sent

    def is_reported(self, replica: ObservedReplica) -> bool:
        """Whether the control plane holds a replica in exactly this state."""
        return self._base is not None and self._base.get(replica.replica_id) == replica

    def jump_over(self, generation: int) -> None:
        """Go on above a generation that the control plane holds of an earlier life of this agent."""
        if generation > self.generation:
            self.generation = generation + 1


def _lasting(facts: ClusterFacts) -> ClusterFacts:
    """Without what changes all the time."""
    peers = tuple(msgspec.structs.replace(peer, state_for_s=None) for peer in facts.peers)
    return msgspec.structs.replace(facts, free_memory_bytes=None, peers=peers)
