"""What one moment of a world has worked out, for the next moment of the same world to take over.

Most events leave most deployments as they were. What is remembered of one stands beside all that it follows from, and
is used only where that is equal still: equal problems give equal answers, whoever was asked before.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from controlplane.placement.problem import PlacementProblem

T = TypeVar("T")

#: A memory with more answers than so many for each deployment that there is holds mostly what is gone: it is let go.
MOST_EACH = 8


@dataclass(slots=True)
class Memory:
    """``ground``: what all answers here follow from; ``kinds`` and ``latest``: answers by their names and keys."""

    ground: tuple[object, ...] = ()
    kinds: dict[tuple[str, Hashable], Any] = field(default_factory=dict)
    latest: dict[tuple[str, Hashable], tuple[tuple[object, ...], Any]] = field(default_factory=dict)

    def of_kind(self, name: str, kind: Hashable, work_out: Callable[[], T]) -> T:
        """What follows from ``kind`` alone on this ground; ``work_out`` says it where nobody asked before."""
        key = (name, kind)
        if key not in self.kinds:
            self.kinds[key] = work_out()
        found: T = self.kinds[key]
        return found

    def of(self, name: str, whom: Hashable, facts: tuple[object, ...], work_out: Callable[[], T]) -> T:
        """What follows from ``facts`` on this ground. Of each deployment (or pool, or kind) the latest is kept."""
        key = (name, whom)
        known = self.latest.get(key)
        if known is not None and known[0] == facts:
            found: T = known[1]
            return found
        answer = work_out()
        self.latest[key] = (facts, answer)
        return answer


def memory_for(problem: PlacementProblem, former: Memory | None) -> Memory:
    """``former``, where it is of a world with the same ground and not full of those who are gone; else an empty one."""
    ground = _ground(problem)
    most = MOST_EACH * max(100, len(problem.deployments))
    if former is not None and former.ground == ground and len(former.latest) <= most:
        return former
    return Memory(ground)


def _ground(problem: PlacementProblem) -> tuple[object, ...]:
    """All but deployments, what they hold and ask for, capacities, prices, and who is closed."""
    return (
        tuple(
            (
                *(pool.pool_id, pool.name, pool.cluster_id, pool.instance_type_id, pool.procurement),
                *(pool.gpu_type, pool.gpu_vendor, pool.gpu_memory_gib, pool.precisions),
                *(pool.gpus_per_instance, pool.hazard_per_h),
            )
            for pool in problem.pools
        ),
        tuple(
            (
                *(cluster.cluster_id, cluster.name, cluster.region, cluster.provider),
                *(cluster.jurisdiction, cluster.failure_domains),
            )
            for cluster in problem.clusters
        ),
        problem.profiles,
        problem.latencies,
        problem.network_prices,
        problem.weights,
    )
