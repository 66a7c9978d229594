"""By how little must the world stretch for a deployment to fit? An integer program, solved exactly by HiGHS.

Where a deployment could be (its pools, and in each lawful cluster one that is not there yet), its replicas are chosen
anew, as decision 0021 asks, in the room that all others leave; pools may grow, ``max_replicas`` and the budget may
rise. What is minimised is the stretch in money per hour: added instances at their price, each replica beyond
``max_replicas`` at the price of the cheapest, the budget by the dollar; among equals, fewer pools, then less rent. Spot
pools are asked to grow last: such capacity is not for the asking. The program counts a replica as its share of an
instance and does not pack.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf
from typing import TYPE_CHECKING

from controlplane.placement.judge.standing import COVERS, TOLERANCE
from controlplane.placement.supply import FailureDomain, Pool
from controlplane.placement.wishes import WantedDeployment

if TYPE_CHECKING:
    from controlplane.placement.search.highs import Model

#: Rent breaks ties, by so small a part of it.
_TIE = 1e-5
#: What an instance is taken to cost at least, in USD/h, so that free capacity is no reason to ask for a thousand.
_LEAST_USD_PER_H = 0.1
#: What it costs to ask for one pool more, in USD/h: of equally dear answers the one with fewer pools.
_EACH_POOL = 1e-2
#: A pool that is not there yet, and a spot pool, is asked for where growing another is dearer by so much.
_NEW_POOL = 1.02
_SPOT_POOL = 3.0
_MOST_NODES = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A pool that the deployment could use.

    free_instances:  what others leave of it, in instances (a replica takes its share of one)
    limit:           replicas that may be there at most, however large it is (held ones of a closed pool); None: any
    share, chance:   of the demand what one replica serves, and its chance to be there
    instance_share:  what a replica takes of an instance
    domains:         everything whose loss takes it
    grows:           whether instances may be added; ``is_new`` ones have none yet
    """

    pool: Pool
    free_instances: float
    limit: int | None
    share: float
    chance: float
    instance_share: float
    domains: frozenset[FailureDomain]
    grows: bool
    is_new: bool

    @property
    def instance_usd_per_h(self) -> float:
        return max(_LEAST_USD_PER_H, (self.pool.instance_micro_usd_per_h or 0) / 1e6)

    @property
    def replica_usd_per_h(self) -> float:
        return self.instance_usd_per_h * self.instance_share


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The least: instances added by pool id, replicas beyond ``max_replicas``, money beyond the budget."""

    instances: Mapping[str, int]
    more_replicas: int
    more_usd_per_h: float


def least_stretch(
    deployment: WantedDeployment, places: Sequence[Place], money_left_usd_per_h: float | None
) -> Stretch | None:
    """``money_left_usd_per_h``: what its project's budget leaves it; None: it has none. None where nothing would do."""
    if not places:
        return None
    from controlplane.placement.search.highs import (  # HiGHS loads slowly; few ever ask
        Model,
        is_optimal,
        silent,
    )

    program = Model()
    blocks = [_replicas(program, deployment, places)]
    if deployment.posture == "active_active":
        _survive(program, deployment, places, blocks[0])
    else:
        if deployment.survivability != "none":
            blocks.append(_replicas(program, deployment, places))
        _one_cluster_each(program, deployment, places, blocks)
    grown = [
        program.column(place.instance_usd_per_h * _reluctance(place), upper=inf if place.grows else 0.0)
        for place in places
    ]
    most = len(blocks) * _most_replicas(deployment, places) + 1
    for index, place in enumerate(places):
        room = {block[index]: place.instance_share for block in blocks}
        program.row({**room, grown[index]: -1.0}, high=max(0.0, place.free_instances) + TOLERANCE)
        if place.grows:
            program.row({grown[index]: 1.0, program.column(_EACH_POOL, upper=1.0): -most}, high=0.0)
    all_replicas = [column for block in blocks for column in block]
    beyond = program.column(min(place.replica_usd_per_h for place in places))
    program.row({**dict.fromkeys(all_replicas, 1.0), beyond: -1.0}, high=float(deployment.max_replicas))
    money = program.column(1.0, whole=False)
    if money_left_usd_per_h is not None:
        spent = {
            block[index]: _spent_usd_per_h(deployment, place)
            for block in blocks
            for index, place in enumerate(places)
        }
        program.row({**spent, money: -1.0}, high=max(0.0, money_left_usd_per_h))
    highs = program.passed(silent(mip_max_nodes=_MOST_NODES, mip_rel_gap=1e-6))
    highs.run()
    if not is_optimal(highs):
        return None
    values = highs.getSolution().col_value
    instances = {place.pool.pool_id: round(values[grown[index]]) for index, place in enumerate(places)}
    return Stretch(
        instances={pool_id: count for pool_id, count in instances.items() if count > 0},
        more_replicas=round(values[beyond]),
        more_usd_per_h=values[money] if values[money] > TOLERANCE else 0.0,
    )


def _spent_usd_per_h(deployment: WantedDeployment, place: Place) -> float:
    """What the budget is charged for a replica; that a reservation's price may be lower is left out (errs high)."""
    price = (place.pool.instance_micro_usd_per_h or 0) / 1e6
    return price * deployment.gpus_per_replica / place.pool.gpus_per_instance


def _reluctance(place: Place) -> float:
    if place.is_new:
        return _NEW_POOL
    return _SPOT_POOL if place.pool.procurement == "spot" else 1.0


def _replicas(program: "Model", deployment: WantedDeployment, places: Sequence[Place]) -> list[int]:
    return [
        program.column(
            place.replica_usd_per_h * _TIE, upper=inf if place.limit is None else float(place.limit)
        )
        for place in places
    ]


def _enough(
    program: "Model",
    deployment: WantedDeployment,
    places: Sequence[Place],
    columns: Mapping[int, int],
) -> None:
    """``columns``: place -> its replicas. Capacity for the demand, and ``min_replicas`` (1 where that is 0)."""
    share = {column: places[index].share * places[index].chance for index, column in columns.items()}
    program.row(share, low=1.0 - TOLERANCE / 2)
    ready = {column: places[index].chance for index, column in columns.items()}
    program.row(ready, low=max(1, deployment.min_replicas) - TOLERANCE / 2)


def _survive(
    program: "Model", deployment: WantedDeployment, places: Sequence[Place], columns: Sequence[int]
) -> None:
    """Enough with nothing lost, and outside of each domain that must be survived."""
    _enough(program, deployment, places, dict(enumerate(columns)))
    for lost in _to_survive(deployment, places):
        outside = {index: column for index, column in enumerate(columns) if lost not in places[index].domains}
        _enough(program, deployment, places, outside)


def _to_survive(deployment: WantedDeployment, places: Sequence[Place]) -> Iterator[FailureDomain]:
    if deployment.survivability == "none":
        return
    kinds = (*COVERS[deployment.survivability], "spot_group")
    found = {domain for place in places for domain in place.domains if domain.kind in kinds}
    yield from sorted(found, key=lambda domain: (domain.kind, domain.name))


def _one_cluster_each(
    program: "Model",
    deployment: WantedDeployment,
    places: Sequence[Place],
    blocks: Sequence[Sequence[int]],
) -> None:
    """What serves is in one cluster, what stands by in another that no loss to be survived takes together with it."""
    by_cluster: dict[str, list[int]] = defaultdict(list)
    for index, place in enumerate(places):
        by_cluster[place.pool.cluster_id].append(index)
    most = _most_replicas(deployment, places)
    chosen: list[dict[str, int]] = []
    for block in blocks:
        _enough(program, deployment, places, dict(enumerate(block)))
        uses = {name: program.column(0.0, upper=1.0) for name in by_cluster}
        program.row(dict.fromkeys(uses.values(), 1.0), low=1.0, high=1.0)
        for name, indexes in by_cluster.items():
            for index in indexes:
                program.row({block[index]: 1.0, uses[name]: -most}, high=0.0)
        chosen.append(uses)
    if len(chosen) < 2:
        return
    kinds = COVERS[deployment.survivability]
    domains = {
        name: {domain for domain in places[indexes[0]].domains if domain.kind in kinds}
        for name, indexes in by_cluster.items()
    }
    for name in by_cluster:
        program.row({chosen[0][name]: 1.0, chosen[1][name]: 1.0}, high=1.0)
    for one, other in combinations(by_cluster, 2):
        if domains[one] & domains[other]:
            program.row({chosen[0][one]: 1.0, chosen[1][other]: 1.0}, high=1.0)
            program.row({chosen[0][other]: 1.0, chosen[1][one]: 1.0}, high=1.0)


def _most_replicas(deployment: WantedDeployment, places: Sequence[Place]) -> float:
    """More than any pool would have of it: what the demand takes on the worst pool that serves any of it. Spot
    capacity that is nearly never there serves nothing."""
    shares = (place.share * place.chance for place in places)
    weakest = min((share for share in shares if share > TOLERANCE), default=1.0)
    least = min((place.chance for place in places if place.chance > TOLERANCE), default=1.0)
    return 2.0 + max(1 / weakest, max(1, deployment.min_replicas) / least)
