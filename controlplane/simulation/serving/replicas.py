"""A deployment's replicas on their places: launched, ready, on their way out, lost."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from controlplane.simulation.serving.pools import ServingPool
from controlplane.simulation.serving.service import ServiceModel
from controlplane.simulation.serving.supply import Holding, Supply, Tally

#: A replica that is to stop ends after so long, even with requests in it (as an agent's drain does).
DRAIN_LIMIT_S = 600.0


@dataclass(slots=True, eq=False)
class SimulatedReplica:
    """A continuous batch on virtual time: ``clock`` counts its steps, ``ends`` has requests by their last step."""

    replica_id: str
    holding: Holding
    launched_s: float
    is_ready: bool = False
    is_leaving: bool = False
    clock: float = 0.0
    last_s: float = 0.0
    ends: list[tuple[float, int, object]] = field(default_factory=list)
    turn: int = 0

    @property
    def place(self) -> int:
        """Where it runs."""
        return self.holding.place

    def advance(self, now_s: float, service: ServiceModel) -> None:
        """Steps have gone by since it was looked at."""
        held = len(self.ends)
        if held:
            self.clock += (now_s - self.last_s) / (service.itl_base_s + service.itl_s_per_request * held)
        self.last_s = now_s

    def enter(self, steps: float, number: int, request: object) -> None:
        """One more in the batch, which must stand at this moment."""
        heappush(self.ends, (self.clock + steps, number, request))

    def leave(self) -> object:
        """The one that ends next has ended."""
        self.clock, _, request = heappop(self.ends)
        return request

    def next_s(self, service: ServiceModel) -> float:
        """When the next one ends, if nothing changes. At least one is in it."""
        held = len(self.ends)
        return self.last_s + max(0.0, self.ends[0][0] - self.clock) * (
            service.itl_base_s + service.itl_s_per_request * held
        )


class Fleet:
    """Who runs where. Single owner: the mode that plays it."""

    def __init__(self, supply: Supply) -> None:
        self.replicas: dict[int, SimulatedReplica] = {}
        self.launches = 0
        self.supply = supply
        self.tally = Tally()

    def serving(self) -> Iterator[SimulatedReplica]:
        """Those that take requests, by place."""
        return (each for each in self._by_place() if each.is_ready and not each.is_leaving)

    def starting(self) -> Iterator[SimulatedReplica]:
        """Those that will."""
        return (each for each in self._by_place() if not each.is_ready and not each.is_leaving)

    def stands(self, replica: SimulatedReplica) -> bool:
        """Whether it is there still."""
        return self.replicas.get(replica.place) is replica

    def launch(self, pool: ServingPool, now_s: float) -> SimulatedReplica | None:
        """One more there; None, and a failed launch, if it has none."""
        holding = self.supply.take(pool, self.tally, now_s)
        if holding is None:
            return None
        self.launches += 1
        replica = SimulatedReplica(f"r{self.launches}", holding, now_s, last_s=now_s)
        self.replicas[holding.place] = replica
        return replica

    def counted(self, pool: ServingPool) -> tuple[int, int]:
        """Its replicas that serve, and those that will."""
        here = [each for each in self.replicas.values() if each.holding.pool is pool and not each.is_leaving]
        ready = sum(each.is_ready for each in here)
        return ready, len(here) - ready

    def to_stop(self, count: int, pools: Iterable[ServingPool]) -> list[SimulatedReplica]:
        """Who goes first: those that still start, the newest first, then the ready ones on the last places."""
        if count <= 0:
            return []
        of = set(pools)
        starting = sorted(self.starting(), key=lambda each: (-each.launched_s, -each.place))
        ready = sorted(self.serving(), key=lambda each: -each.place)
        return [each for each in (*starting, *ready) if each.holding.pool in of][:count]

    def end(self, replica: SimulatedReplica, now_s: float) -> None:
        """It is gone, and was paid for until now."""
        del self.replicas[replica.place]
        self.supply.end(replica.holding, now_s)

    def lost(self, hit: Iterable[Holding]) -> list[SimulatedReplica]:
        """Whoever stood there is gone."""
        return [self.replicas.pop(each.place) for each in hit if each.tally is self.tally]

    def _by_place(self) -> Iterator[SimulatedReplica]:
        return (self.replicas[place] for place in sorted(self.replicas))
