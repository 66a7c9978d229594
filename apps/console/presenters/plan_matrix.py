"""A plan as a table: deployments down, regions across; in each cell replicas by procurement, money and traffic."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from controlplane.placement import Allocation, DeploymentPlan, PlacementPlan, PlacementProblem
from controlplane.placement.rules.traffic import network_free_s
from workloadplane.protocol.refusal import Refusal

#: In the order of the legend.
PROCUREMENTS = ("reserved", "on_demand", "spot")


@dataclass(frozen=True)
class Share:
    """Replicas of one procurement in one region."""

    procurement: str
    replicas: int
    standby: bool


@dataclass(frozen=True)
class Flow:
    """A part of an origin's requests that goes to this region. ``rtt_ms`` None: not measured.

    ``late_ms``: how much of the round trip is beyond what the network may take.
    """

    origin: str
    percent: float
    rtt_ms: float | None
    late_ms: float


@dataclass(frozen=True)
class MatrixCell:
    """What one deployment has in one region."""

    region: str
    shares: tuple[Share, ...]
    micro_usd_per_h: int
    flows: tuple[Flow, ...]


@dataclass(frozen=True)
class MatrixRow:
    """One deployment across the regions. ``word``: placed, relaxed (a wish is not kept) or not placed."""

    name: str
    word: str
    tone: str
    micro_usd_per_h: int
    replicas: int
    cells: tuple[MatrixCell, ...]


@dataclass(frozen=True)
class RegionHead:
    """A region as the head of a column."""

    name: str
    provider: str
    jurisdiction: str


@dataclass(frozen=True)
class PlanMatrix:
    """The table, and which procurements occur in it."""

    regions: tuple[RegionHead, ...]
    rows: tuple[MatrixRow, ...]


@dataclass(frozen=True)
class WishView:
    """A wish of a deployment that the plan does not keep; ``refused``: it is not placed as wanted at all."""

    deployment: str
    refusal: Refusal
    refused: bool


def plan_matrix(problem: PlacementProblem, plan: PlacementPlan, deployment_ids: Sequence[str]) -> PlanMatrix:
    """Some of a plan's deployments; regions where none of them has anything are left out."""
    rows = [_row(problem, plan.by_deployment[deployment_id]) for deployment_id in deployment_ids]
    used = {cell.region for row in rows for cell in row.cells}
    heads = {
        cluster.region: RegionHead(cluster.region, cluster.provider, cluster.jurisdiction)
        for cluster in problem.clusters
        if cluster.region in used
    }
    regions = tuple(heads[name] for name in sorted(heads))
    return PlanMatrix(regions=regions, rows=tuple(_aligned(row, regions) for row in rows))


def _row(problem: PlacementProblem, entry: DeploymentPlan) -> MatrixRow:
    by_region: dict[str, list[Allocation]] = {}
    for allocation in entry.allocations:
        region = problem.cluster_by_id[problem.pool_by_id[allocation.pool_id].cluster_id].region
        by_region.setdefault(region, []).append(allocation)
    flows = _flows(problem, entry)
    word, tone = "placed", "ok"
    if entry.refusal is not None:
        word, tone = "not placed", "bad"
    elif entry.relaxed:
        word, tone = "relaxed", "warn"
    return MatrixRow(
        name=problem.deployment_by_id[entry.deployment_id].name,
        word=word,
        tone=tone,
        micro_usd_per_h=entry.micro_usd_per_h,
        replicas=sum(allocation.room_replicas for allocation in entry.allocations),
        cells=tuple(
            MatrixCell(
                region=region,
                shares=_shares(problem, by_region.get(region, ())),
                micro_usd_per_h=sum(row.micro_usd_per_h for row in by_region.get(region, ())),
                flows=tuple(flows.get(region, ())),
            )
            for region in sorted(by_region.keys() | flows.keys())
        ),
    )


def _aligned(row: MatrixRow, regions: Iterable[RegionHead]) -> MatrixRow:
    """A cell for every column."""
    have = {cell.region: cell for cell in row.cells}
    cells = tuple(have.get(head.name) or MatrixCell(head.name, (), 0, ()) for head in regions)
    return MatrixRow(row.name, row.word, row.tone, row.micro_usd_per_h, row.replicas, cells)


def _shares(problem: PlacementProblem, allocations: Iterable[Allocation]) -> tuple[Share, ...]:
    counted: dict[tuple[str, bool], int] = {}
    for row in allocations:
        key = (problem.pool_by_id[row.pool_id].procurement, row.standby)
        counted[key] = counted.get(key, 0) + row.room_replicas
    order = {name: index for index, name in enumerate(PROCUREMENTS)}
    return tuple(
        Share(procurement=procurement, replicas=replicas, standby=standby)
        for (procurement, standby), replicas in sorted(
            counted.items(), key=lambda one: (order[one[0][0]], one[0][1])
        )
    )


def _flows(problem: PlacementProblem, entry: DeploymentPlan) -> Mapping[str, list[Flow]]:
    """By the region where requests are served, the largest first."""
    flows: dict[str, list[Flow]] = {}
    free_s = network_free_s(problem, problem.deployment_by_id[entry.deployment_id])
    for share in sorted(entry.traffic, key=lambda one: (-one.share, one.origin_region)):
        region = problem.cluster_by_id[share.cluster_id].region
        rtt_s = problem.rtt_s_measured(share.origin_region, region)
        flow = Flow(
            origin=share.origin_region,
            percent=100 * share.share,
            rtt_ms=None if rtt_s is None else 1000 * rtt_s,
            late_ms=0.0 if rtt_s is None else max(0.0, 1000 * (rtt_s - free_s)),
        )
        flows.setdefault(region, []).append(flow)
    return flows


def wishes(
    problem: PlacementProblem, plan: PlacementPlan, deployment_ids: Iterable[str]
) -> tuple[WishView, ...]:
    """What these deployments asked for and do not get, refusals first."""
    found = []
    for deployment_id in deployment_ids:
        entry, name = plan.by_deployment[deployment_id], problem.deployment_by_id[deployment_id].name
        if entry.refusal is not None:
            found.append(WishView(name, entry.refusal, refused=True))
        found.extend(WishView(name, refusal, refused=False) for refusal in entry.relaxed)
    return tuple(sorted(found, key=lambda wish: (not wish.refused, wish.deployment)))
