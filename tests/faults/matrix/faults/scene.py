"""A fault, and where it is chosen."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from infra.embedded.parts import CLUSTERS
from tests.faults.matrix.world import ACTIVE_PASSIVE, EU, EU_ONLY, Replica, World

Act = Callable[[], Awaitable[None]]


@dataclass
class Fault:
    """One that is to be put in place.

    kind:       one of the classes that are paired
    clusters:   whose serving it harms, so that what may be served only there may be refused
    doors:      whose gateways it takes from their clients, so that connections there may end
    may_refuse: deployments that may be refused while it lasts and until all is settled
    hold_s:     how long it lasts
    """

    kind: str
    name: str
    put: Act
    end: Act
    clusters: frozenset[str] = frozenset()
    doors: frozenset[str] = frozenset()
    may_refuse: frozenset[str] = frozenset()
    hold_s: float = 4.0


@dataclass
class Scene:
    """Where faults are chosen: the world, who serves the pair now, and a source of chance.

    is_pair: another fault comes with it
    """

    world: World
    rng: Random
    pair_home: str
    is_pair: bool = False
    taken: list[Fault] = field(default_factory=list)

    def cluster(self) -> str:
        """One in which something may break: with what is broken already, one region stays whole."""
        broken = frozenset().union(*(each.clusters | each.doors for each in self.taken))
        if len(broken) >= 2:
            return self.rng.choice(sorted(broken))
        return self.rng.choice(CLUSTERS)

    def replica(self) -> Replica:
        return self.rng.choice(sorted(self.world.replicas(self.cluster()), key=lambda one: one.replica_id))

    def refusable(self, clusters: Iterable[str] = (), *, plane: bool = False) -> frozenset[str]:
        """What may be served by nobody else."""
        harmed = set(clusters)
        found = {EU_ONLY} if EU in harmed else set()
        if plane or self.pair_home in harmed:
            found.add(ACTIVE_PASSIVE)
        return frozenset(found)

    def of_region(self, kind: str, name: str, cluster: str, put: Act, end: Act, hold_s: float = 4.0) -> Fault:
        """One that takes a whole region."""
        one = frozenset({cluster})
        return Fault(kind, f"{name} ({cluster})", put, end, one, one, self.refusable(one), hold_s)

    def of_replica(self, kind: str, name: str, one: Replica, put: Act, end: Act) -> Fault:
        """One that takes a single replica: others of its deployment serve, but of the pair."""
        alone = one.deployment == ACTIVE_PASSIVE and one.cluster == self.pair_home
        refusable = frozenset({ACTIVE_PASSIVE}) if alone else frozenset()
        return Fault(kind, f"{name} ({one.deployment}, {one.cluster})", put, end, may_refuse=refusable)


async def nothing() -> None:
    """What heals by itself."""


Maker = Callable[[Scene], Fault]
