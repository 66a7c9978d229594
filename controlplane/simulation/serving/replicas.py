"""A deployment's replicas on their places: launched, ready, on their way out, lost; and what that costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from controlplane.simulation.serving.pools import S_PER_H, Loss, Places
from controlplane.simulation.serving.service import ServiceModel

#: A replica that is to stop ends after so long, even with requests in it (as an agent's drain does).
DRAIN_LIMIT_S = 600.0


@dataclass(slots=True, eq=False)
class SimulatedReplica:
    """A continuous batch on virtual time: ``clock`` counts its steps, ``ends`` has requests by their last step."""

    replica_id: str
    place: int
    launched_s: float
    is_ready: bool = False
    is_leaving: bool = False
    clock: float = 0.0
    last_s: float = 0.0
    ends: list[tuple[float, int, object]] = field(default_factory=list)
    turn: int = 0

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

    def __init__(self, places: Places, stock_outs: Mapping[str, Sequence[tuple[float, float]]]) -> None:
        self.replicas: dict[int, SimulatedReplica] = {}
        self.launches = 0
        self.failed_launches = 0
        self.replica_s = 0.0
        self.usd = 0.0
        self._places = places
        self._stock_outs = stock_outs
        self._gone_until_s: dict[int, float] = {}

    def serving(self) -> Iterator[SimulatedReplica]:
        """Those that take requests, by place."""
        return (each for each in self._by_place() if each.is_ready and not each.is_leaving)

    def starting(self) -> Iterator[SimulatedReplica]:
        """Those that will."""
        return (each for each in self._by_place() if not each.is_ready and not each.is_leaving)

    def launch(self, now_s: float) -> SimulatedReplica | None:
        """One more, on the first place that is to be had; None, and a failed launch, if there is none."""
        without_stock = {
            name for name, spans in self._stock_outs.items() if any(a <= now_s < b for a, b in spans)
        }
        for place, pool in enumerate(self._places.pool_of):
            is_gone = self._gone_until_s.get(place, 0.0) > now_s
            if place in self.replicas or is_gone or pool.name in without_stock:
                continue
            self.launches += 1
            replica = SimulatedReplica(f"r{self.launches}", place, now_s, last_s=now_s)
            self.replicas[place] = replica
            return replica
        self.failed_launches += 1
        return None

    def to_stop(self, count: int) -> list[SimulatedReplica]:
        """Who goes first: those that still start, the newest first, then the ready ones on the last places."""
        starting = sorted(self.starting(), key=lambda each: (-each.launched_s, -each.place))
        ready = sorted(self.serving(), key=lambda each: -each.place)
        return [*starting, *ready][:count]

    def end(self, replica: SimulatedReplica, now_s: float) -> None:
        """It is gone, and was paid for until now."""
        del self.replicas[replica.place]
        self._pay(replica, now_s)

    def lose(self, loss: Loss, now_s: float) -> list[SimulatedReplica]:
        """Whoever was there; nobody is until the loss is over."""
        hit = []
        for place in loss.places:
            self._gone_until_s[place] = max(loss.back_s, self._gone_until_s.get(place, 0.0))
            replica = self.replicas.get(place)
            if replica is not None:
                self.end(replica, now_s)
                hit.append(replica)
        return hit

    def close(self, now_s: float) -> None:
        """The world's end: all are paid for, and reserved capacity whether it was used or not."""
        for replica in self.replicas.values():
            self._pay(replica, now_s)
        self.usd += sum(
            pool.usd_per_replica_h * pool.replicas * now_s / S_PER_H
            for pool in self._places.pools
            if pool.procurement == "reserved"
        )

    def _pay(self, replica: SimulatedReplica, now_s: float) -> None:
        self.replica_s += now_s - replica.launched_s
        pool = self._places.pool_of[replica.place]
        if pool.procurement != "reserved":
            self.usd += pool.usd_per_replica_h * (now_s - replica.launched_s) / S_PER_H

    def _by_place(self) -> Iterator[SimulatedReplica]:
        return (self.replicas[place] for place in sorted(self.replicas))
