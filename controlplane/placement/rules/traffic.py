"""Where each origin's requests go while all is well: to clusters that have the capacity, at least cost.

A small transportation problem, solved exactly: every origin to its cheapest cluster where that fits, else by shortest
augmenting paths.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from controlplane.placement.plan import TrafficShare
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.rules.needs import index_of
from controlplane.placement.supply import Cluster
from controlplane.placement.wishes import Demand, WantedDeployment

SECONDS_PER_H = 3600
BYTES_PER_GIB = 1024**3

#: Amounts of traffic below this, as a part of a deployment's demand, are rounding.
_LEAST = 1e-9

#: Costs are compared in whole thousandths of a micro-dollar, so that no rounding makes ways run in circles.
_WHOLE = 1000

#: Of equally cheap clusters the nearer one: what a second of round trip weighs there, in micro-USD/h.
_NEARER_MICRO_USD_PER_H_S = 1e-3


def network_free_s(problem: PlacementProblem, deployment: WantedDeployment) -> float:
    """The round trip that costs nothing, in seconds."""
    if deployment.slo.ttft_s_p95 is None:
        return problem.weights.network_free_s
    return problem.weights.network_ttft_share * deployment.slo.ttft_s_p95


def lateness_micro_usd_per_h(
    problem: PlacementProblem, deployment: WantedDeployment, demand: Demand, region: str
) -> float:
    """What an origin's median requests cost in lateness if a region serves them all."""
    late_s = problem.rtt_s(demand.origin_region, region) - network_free_s(problem, deployment)
    requests_per_h = demand.requests_per_s_p50 * SECONDS_PER_H
    return max(0.0, late_s) * requests_per_h * problem.weights.late_micro_usd_per_request_s


def network_micro_usd_per_h(problem: PlacementProblem, demand: Demand, region: str) -> float:
    """What an origin's median tokens cost on their way out of a region that serves them all."""
    gib_per_h = demand.tokens_per_s_p50 * SECONDS_PER_H * problem.weights.wire_bytes_per_token / BYTES_PER_GIB
    return gib_per_h * problem.micro_usd_per_gib(demand.origin_region, region)


def region_costs(
    problem: PlacementProblem, deployment: WantedDeployment, regions: Iterable[str]
) -> dict[str, float]:
    """Region -> what the whole traffic of a deployment costs, late and on the wire, if that region serves it."""
    if not problem.demands_of(deployment.deployment_id):
        return {}
    return {
        region: sum([lane.micro_usd_per_h for lane in lanes_to(problem, deployment, region)])
        for region in regions
    }


class Lane(NamedTuple):
    """The way of one origin's requests to a region: what it costs if all of them go there, and its round trip."""

    lateness_micro_usd_per_h: float
    network_micro_usd_per_h: float
    rtt_s: float

    @property
    def micro_usd_per_h(self) -> float:
        return self.lateness_micro_usd_per_h + self.network_micro_usd_per_h


def lanes_to(problem: PlacementProblem, deployment: WantedDeployment, region: str) -> Sequence[Lane]:
    """From each origin of a deployment's demand, in the order of ``demands_of``."""
    demands = problem.demands_of(deployment.deployment_id)
    known: dict[str, Sequence[Lane]] = index_of(problem).memory.of(
        "lanes", deployment.deployment_id, (deployment, demands), dict
    )
    found = known.get(region)
    if found is None:
        found = known[region] = [
            Lane(
                lateness_micro_usd_per_h(problem, deployment, row, region),
                network_micro_usd_per_h(problem, row, region),
                problem.rtt_s(row.origin_region, region),
            )
            for row in demands
        ]
    return found


def too_far(problem: PlacementProblem, deployment: WantedDeployment, cluster: Cluster) -> bool:
    """Whether a cluster is further from every origin that has demand than the TTFT target (rule ``latency``)."""
    target_s = deployment.slo.ttft_s_p95
    if target_s is None or problem.farthest_rtt_s <= target_s:
        return False
    origins = [row.origin_region for row in problem.demands_of(deployment.deployment_id) if _asks(row)]
    return bool(origins) and all(problem.rtt_s(origin, cluster.region) > target_s for origin in origins)


def traffic(
    problem: PlacementProblem, deployment: WantedDeployment, share_by_cluster: Mapping[str, float]
) -> tuple[TrafficShare, ...]:
    """The cheapest traffic. ``share_by_cluster``: cluster id -> part of the whole demand that it can serve.

    Where the parts sum to less than 1 they are taken as proportions; where all are 0 (nothing converts demand into
    replicas), each origin goes to its cheapest cluster. An origin's part of the demand is its part of the p95 requests,
    or of the tokens where nobody counts requests.
    """
    demands = problem.demands_of(deployment.deployment_id)
    if not demands or not share_by_cluster:
        return ()
    names = sorted(share_by_cluster, key=lambda name: (problem.cluster_by_id[name].region, name))
    if len(names) == 1:
        return tuple(
            TrafficShare(origin_region=row.origin_region, cluster_id=names[0], share=1.0) for row in demands
        )
    lanes = [lanes_to(problem, deployment, problem.cluster_by_id[name].region) for name in names]
    costs = [
        [lane.micro_usd_per_h + lane.rtt_s * _NEARER_MICRO_USD_PER_H_S for lane in of_origin]
        for of_origin in zip(*lanes, strict=True)
    ]
    loads = _loads(demands)
    room = [share_by_cluster[name] for name in names]
    total = sum(room)
    if total < 1:
        room = [part / total if total > 0 else 1.0 for part in room]
    flow = transported(loads, room, costs)
    return tuple(
        TrafficShare(origin_region=row.origin_region, cluster_id=names[index], share=share)
        for row, shares in zip(demands, flow, strict=True)
        for index, share in enumerate(shares)
        if share > 0
    )


def transported(
    loads: Sequence[float], room: Sequence[float], costs: Sequence[Sequence[float]]
) -> list[list[float]]:
    """For each load the parts of it (summing to 1) that go to each room, at least cost: Σ part × cost of the whole.

    The room must be enough for all loads, but for rounding.
    """
    best = [min(range(len(room)), key=row.__getitem__) for row in costs]
    used = [0.0] * len(room)
    for load, target in zip(loads, best, strict=True):
        used[target] += load
    if all(one <= most + _LEAST for one, most in zip(used, room, strict=True)):
        return [[float(index == target) for index in range(len(room))] for target in best]
    flow = _cheapest_flow(loads, list(room), costs)
    return [
        _parts(row) if load > _LEAST else [float(index == target) for index in range(len(room))]
        for row, load, target in zip(flow, loads, best, strict=True)
    ]


def _cheapest_flow(
    loads: Sequence[float], room: list[float], costs: Sequence[Sequence[float]]
) -> list[list[float]]:
    """Shortest augmenting paths: each load in turn goes where it adds least, others making way where that pays."""
    unit = [
        [round(cost / load * _WHOLE) if load > _LEAST else 0 for cost in row]
        for row, load in zip(costs, loads, strict=True)
    ]
    if len(loads) == 1:
        return [_cheapest_first(loads[0], room, unit[0])]
    flow = [[0.0] * len(room) for _ in loads]
    for source, load in enumerate(loads):
        left = load
        while left > _LEAST:
            path = _path(source, flow, room, unit)
            if path is None:  # rounding: the room is used up
                flow[source][min(range(len(room)), key=unit[source].__getitem__)] += left
                break
            moved = min(left, room[path[-1][1]], *(flow[origin][came] for origin, _, came in path[1:]))
            for origin, target, came in path:
                flow[origin][target] += moved
                if came >= 0:
                    flow[origin][came] -= moved
            room[path[-1][1]] -= moved
            left -= moved
    return flow


def _cheapest_first(load: float, room: Sequence[float], unit: Sequence[int]) -> list[float]:
    """What the paths come to for one load alone; what is too much for all rooms, by rounding, goes to the cheapest."""
    order = sorted(range(len(room)), key=unit.__getitem__)
    flow = [0.0] * len(room)
    for target in order:
        flow[target] = min(load, room[target])
        load -= flow[target]
    flow[order[0]] += load
    return flow


def _path(
    source: int, flow: Sequence[Sequence[float]], room: Sequence[float], unit: Sequence[Sequence[int]]
) -> list[tuple[int, int, int]] | None:
    """The cheapest way for ``source`` to a target with room, as (origin, to, from): Bellman-Ford over targets."""
    targets = range(len(room))
    cost = list(unit[source])
    step: list[tuple[int, int, int]] = [(source, target, -1) for target in targets]
    for _ in targets:
        settled = True
        for origin, row in enumerate(flow):
            for came in targets:
                if row[came] <= _LEAST:
                    continue
                for target in targets:
                    through = cost[came] + unit[origin][target] - unit[origin][came]
                    if through < cost[target]:
                        cost[target], step[target] = through, (origin, target, came)
                        settled = False
        if settled:
            break
    ends = [target for target in targets if room[target] > _LEAST]
    if not ends:
        return None
    path = [step[min(ends, key=cost.__getitem__)]]
    while path[-1][2] >= 0 and len(path) <= len(room):
        path.append(step[path[-1][2]])
    return path[::-1]


def _parts(row: Sequence[float]) -> list[float]:
    total = sum(part for part in row if part > _LEAST)
    return [part / total if part > _LEAST else 0.0 for part in row]


def _asks(demand: Demand) -> bool:
    return demand.requests_per_s_p95 > 0 or demand.tokens_per_s_p95 > 0


def _loads(demands: Sequence[Demand]) -> list[float]:
    requests_per_s = sum(row.requests_per_s_p95 for row in demands)
    if requests_per_s > 0:
        return [row.requests_per_s_p95 / requests_per_s for row in demands]
    tokens_per_s = sum(row.tokens_per_s_p95 for row in demands)
    return [row.tokens_per_s_p95 / tokens_per_s if tokens_per_s > 0 else 0.0 for row in demands]
