"""What agents tell of one holder's spot capacity, and what is learned of it as the control plane learns it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controlplane.placement import Pool
from controlplane.procurement.learning import (
    LOOKED_BACK_S,
    Believed,
    HeldSpan,
    Launched,
    PoolStated,
    TakenBack,
    learn,
    spot_group,
    taken_over,
)


@dataclass(slots=True)
class SpotSeen:
    """Launches, what was held, and what was taken back; each by pool, in order of time."""

    launched: list[Launched] = field(default_factory=list)
    held: list[HeldSpan] = field(default_factory=list)
    taken_back: list[TakenBack] = field(default_factory=list)

    def looked_at(self, now_s: float, open_spans: Iterable[HeldSpan]) -> "SpotSeen":
        """What is not too old for it. ``open_spans``: what is held still."""
        moment_s = now_s - LOOKED_BACK_S
        spans = (*(row for row in self.held if row.until_s is None or row.until_s > moment_s), *open_spans)
        return SpotSeen(
            launched=[row for row in self.launched if row.at_s >= moment_s],
            held=[replace(row, since_s=max(row.since_s, moment_s)) for row in spans],
            taken_back=[row for row in self.taken_back if row.at_s >= moment_s],
        )


class SpotBeliefs:
    """What placement reckons with of a world's spot pools. Single owner: the control plane that plays it."""

    def __init__(self, pools: Iterable[Pool], zones: Mapping[str, Sequence[str]]) -> None:
        """``pools``: as they are stated; ``zones`` by cluster."""
        self._stated = {
            (pool.cluster_id, pool.name): Believed(pool.hazard_per_h, pool.obtainability)
            for pool in pools
            if pool.procurement == "spot"
        }
        self._groups = {
            (pool.cluster_id, pool.name): spot_group(
                pool.instance_type, zones=zones[pool.cluster_id], cluster=pool.cluster_id
            )
            for pool in pools
        }
        self._believed = dict(self._stated)

    def look(self, cluster_id: str, seen: SpotSeen, now_s: float) -> list[str]:
        """At what is told of one cluster; of which of its pools something else is believed now."""
        mine = {name: stated for (cluster, name), stated in self._stated.items() if cluster == cluster_id}
        found = learn(
            [
                PoolStated(
                    pool_id=name,
                    group=self._groups[cluster_id, name],
                    hazard_per_h=stated.hazard_per_h,
                    obtainability=stated.obtainability,
                )
                for name, stated in mine.items()
            ],
            held=seen.held,
            taken_back=seen.taken_back,
            launched=seen.launched,
            now_s=now_s,
        )
        moved = []
        for name, stated in mine.items():
            place = (cluster_id, name)
            after = taken_over(found[name], stated=stated, believed=self._believed[place])
            if after is not None:
                self._believed[place] = after.beside(stated)
                moved.append(name)
        return moved

    def of(self, pool: Pool) -> Pool:
        """With what is believed of it."""
        believed = self._believed.get((pool.cluster_id, pool.name))
        if believed is None:
            return pool
        return replace(pool, hazard_per_h=believed.hazard_per_h, obtainability=believed.obtainability)

    def told(self) -> dict[str, str]:
        """In words, of pools of which it is not what is stated."""
        return {
            f"{place[0]}/{place[1]}": f"lost {believed.hazard_per_h:.3g} times an hour (stated: "
            f"{stated.hazard_per_h:.3g}), had {believed.obtainability:.3g} times when asked for"
            for place, stated in self._stated.items()
            if (believed := self._believed[place]) != stated
        }
