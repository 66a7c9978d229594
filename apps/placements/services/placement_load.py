"""Load: an organization's world as one consistent snapshot, in a dozen queries, whatever its size."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, cast
from uuid import UUID

from django.db import connection, transaction

from apps.accounts import selectors as accounts
from apps.agents import selectors as agents
from apps.api.actors import system_actor
from apps.catalog import selectors as catalog
from apps.deployments import selectors as deployments
from apps.deployments.models import ResidencyIngress
from apps.deployments.selectors import DeploymentHeld, DeploymentToPlace
from apps.drains import selectors as drains
from apps.fleet import selectors as fleet
from apps.fleet.models import Region
from apps.placements import selectors
from apps.placements.demand import Rates, Usage, demand_planned
from apps.placements.models import PlacementClock
from apps.placements.promoted import as_promoted
from apps.placements.selectors import AssignmentHeld
from apps.placements.soundness import Unsound, held_limited, pool_closed
from controlplane.placement import (
    Budget,
    Cluster,
    CurrentAssignment,
    Demand,
    DomainKind,
    FailureDomain,
    Latency,
    NetworkPrice,
    Occupancy,
    PerformanceProfile,
    PlacementProblem,
    Pool,
    Reservation,
    Slo,
    WantedDeployment,
)
from controlplane.placement.questions.drain import drained
from controlplane.placement.rules.occupancy import promised_first


def placement_load(*, organization_id: UUID, now: datetime) -> PlacementProblem:
    """The problem as it stands. ``now`` decides which prices, reservations and leases are in force."""
    return placement_load_sound(organization_id=organization_id, now=now)[0]


def placement_load_sound(
    *, organization_id: UUID, now: datetime, supposed: DeploymentToPlace | None = None
) -> tuple[PlacementProblem, Unsound]:
    """The problem, and what is kept out of it because of rows that no problem may hold.

    ``supposed`` is wanted too, in place of the deployment of the same id if there is one.
    """
    unsound = Unsound()
    with snapshot():
        clock = selectors.clock(organization_id=organization_id) or PlacementClock()
        actor = system_actor("placement", organization_id=organization_id)
        cluster_rows = list(fleet.clusters(actor=actor, now=now))
        clusters = [cluster_of(row) for row in cluster_rows]
        pools = list(fleet.pools(actor=actor, now=now))
        wanted = deployments.deployments_to_place(organization_id=organization_id)
        if supposed is not None:
            others = (row for row in wanted if row.held.deployment_id != supposed.held.deployment_id)
            wanted = [*others, supposed]
        assignments = selectors.assignments_held(organization_id=organization_id)
        regions = {row.region for row in cluster_rows if row.ended_at is None}
        demands = _demands(organization_id, wanted, regions, now, unsound)
        reservations = list(_reservations(organization_id, now, unsound))
        profiles = list(_profiles(wanted, unsound))
        budgets = list(_budgets(organization_id, wanted, unsound))
        placed = list(_wanted(wanted, unsound))
        promoted = agents.promoted_cluster_ids(organization_id=organization_id)
        current = list(_current(as_promoted(assignments, promoted, pools), unsound))
        left_out = unsound.deployments
        problem = PlacementProblem(
            organization_id=str(organization_id),
            wanted=clock.wanted,
            plan_generation=clock.plan_generation,
            clusters=tuple(sorted(clusters, key=lambda cluster: cluster.name)),
            pools=tuple(_pool_of(row, unsound) for row in sorted(pools, key=lambda row: str(row.pk))),
            deployments=tuple(row for row in placed if row.deployment_id not in left_out),
            current=tuple(row for row in current if row.deployment_id not in left_out),
            occupancies=(
                *_occupancies(row for row in assignments if not row.in_force),
                *_handed_over(
                    row for row in assignments if row.in_force and str(row.deployment_id) not in left_out
                ),
                *_held(row for row in assignments if row.in_force and str(row.deployment_id) in left_out),
            ),
            reservations=tuple(reservations),
            profiles=tuple(profiles),
            demands=tuple(row for row in demands if row.deployment_id not in left_out),
            latencies=tuple(_latencies(regions | _elsewhere(demands, regions), regions, unsound)),
            budgets=tuple(budgets),
            network_prices=tuple(_network_prices(regions, unsound)),
        )
        in_force = drains.drains_in_force(organization_id=organization_id)
        return drained(promised_first(problem), in_force), unsound


def _wanted(rows: Iterable[DeploymentToPlace], unsound: Unsound) -> Iterator[WantedDeployment]:
    for row in rows:
        wanted = unsound.read(partial(wanted_of, row.held), deployment_ids=(row.held.deployment_id,))
        if wanted is not None:
            yield wanted


def _current(assignments: Iterable[AssignmentHeld], unsound: Unsound) -> Iterator[CurrentAssignment]:
    for row in assignments:
        found = unsound.read(partial(_current_of, row), deployment_ids=(row.deployment_id,))
        if found is not None:
            yield found


def _held(assignments: Iterable[AssignmentHeld]) -> Iterator[Occupancy]:
    """What goes on of those that are left out: nothing may be placed into their room."""
    for row in assignments:
        sound = held_limited(row._asdict())
        yield Occupancy(
            deployment_id=str(row.deployment_id),
            pool_id=str(row.pool_id),
            gpus_per_replica=sound["gpus_per_replica"],
            replicas=max(sound["min_replicas"], sound["planned_replicas"], row.handover_replicas),
        )


@contextmanager
def snapshot() -> Iterator[None]:
    """REPEATABLE READ, so that all queries see one moment. Within a caller's transaction, that one's view counts."""
    nested = connection.in_atomic_block
    with transaction.atomic():
        if not nested:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def cluster_of(row: Any) -> Cluster:
    """A row of ``fleet.clusters``. Its region and provider are failure domains also where nobody recorded them."""
    region, provider = row.region.name, row.region.provider.name
    domains = {(domain.kind, domain.name) for domain in row.failure_domains.all()}
    domains |= {("region", region), ("provider", provider)}
    return Cluster(
        cluster_id=str(row.pk),
        name=row.name,
        generation=row.generation,
        region=region,
        provider=provider,
        jurisdiction=row.region.jurisdiction,
        failure_domains=tuple(
            FailureDomain(kind=cast(DomainKind, kind), name=name) for kind, name in sorted(domains)
        ),
        closed=_closed(row),
    )


def _closed(row: Any) -> str:
    if row.retired_at is not None:
        return "it was retired"
    if not row.is_enrolled:
        return "its agent was never enrolled"
    if not row.is_connected:
        return "its agent is not connected"
    return "" if row.schedulable else "it is not schedulable"


def _pool_of(row: Any, unsound: Unsound) -> Pool:
    """A row of ``fleet.pools``, at its price now; closed where it or its reservations can't be planned with."""
    fields = _pool_fields(row)
    pool = unsound.read(partial(Pool, **fields), pool_id=row.pk)
    why = unsound.pools.get(str(row.pk))
    return pool if pool is not None and why is None else pool_closed(fields, why or "")


def _pool_fields(row: Any) -> dict[str, Any]:
    gpu_type = row.instance_type.gpu_type
    return {
        "pool_id": str(row.pk),
        "name": row.name,
        "generation": row.generation,
        "cluster_id": str(row.cluster_id),
        "instance_type_id": str(row.instance_type_id),
        "instance_type": row.instance_type.name,
        "gpu_type": gpu_type.name,
        "gpu_vendor": gpu_type.vendor,
        "gpu_memory_gib": gpu_type.memory_gib,
        "precisions": tuple(sorted(gpu_type.precisions)),
        "procurement": row.procurement,
        "gpus_per_instance": row.instance_type.gpus,
        "capacity_instances": row.capacity_instances,
        "instance_micro_usd_per_h": row.micro_usd_per_h,
        "hazard_per_h": row.hazard_believed_per_h,
        "obtainability": row.obtainability_believed,
        "closed": "" if row.schedulable else "it is not schedulable",
    }


@lru_cache(maxsize=20_000)
def wanted_of(held: DeploymentHeld) -> WantedDeployment:
    """A deployment as placement sees it. Equal rows give the same value, here as below: most are as they were before,
    are checked once, and are quickly told to be equal.
    """
    fields = held._asdict()
    for name in ("deployment_id", "project_id", "revision_id", "model_version_id"):
        fields[name] = str(fields[name])
    for name in ("residency", "providers_allowed", "providers_denied"):
        fields[name] = tuple(sorted(fields[name]))
    slo = {name: fields.pop(name) for name in ("ttft_s_p95", "inter_token_latency_s_p95")}
    created_at = fields.pop("created_at")
    return WantedDeployment(**fields, created_at_s=created_at.timestamp(), slo=Slo(**slo))


@lru_cache(maxsize=40_000)
def _current_of(row: AssignmentHeld) -> CurrentAssignment:
    return CurrentAssignment(
        assignment_id=str(row.assignment_id),
        deployment_id=str(row.deployment_id),
        revision_id=str(row.revision_id),
        revision=row.revision,
        pool_id=str(row.pool_id),
        min_replicas=row.min_replicas,
        max_replicas=row.max_replicas,
        gpus_per_replica=row.gpus_per_replica,
        planned_replicas=row.planned_replicas,
        standby=row.standby,
    )


def _occupancies(outgoing: Iterable[AssignmentHeld]) -> Iterator[Occupancy]:
    """What still holds its GPUs on its way out: what agents report, and at least what was promised to those leaving."""
    found = list(outgoing)
    living = living_by_assignment({row.deployment_id for row in found})
    for row in found:
        replicas = living.get(row.assignment_id, 0)
        if row.leaving and not row.draining:
            replicas = max(replicas, row.min_replicas)
        if replicas:
            yield Occupancy(
                deployment_id=str(row.deployment_id),
                pool_id=str(row.pool_id),
                gpus_per_replica=row.gpus_per_replica,
                replicas=replicas,
            )


def _handed_over(standing: Iterable[AssignmentHeld]) -> Iterator[Occupancy]:
    """What goes on serving beyond its bounds until others are ready."""
    for row in standing:
        if row.handover_replicas > row.room_replicas:
            yield Occupancy(
                deployment_id=str(row.deployment_id),
                pool_id=str(row.pool_id),
                gpus_per_replica=row.gpus_per_replica,
                replicas=row.handover_replicas,
            )


def living_by_assignment(deployment_ids: set[UUID]) -> Mapping[UUID, int]:
    """Replicas that hold GPUs, by assignment."""
    living: dict[UUID, int] = defaultdict(int)
    if deployment_ids:
        for count in agents.replica_counts(deployment_ids=deployment_ids):
            if count.state in agents.LIVING:
                living[count.assignment_id] += count.replicas
    return living


def _reservations(organization_id: UUID, now: datetime, unsound: Unsound) -> Iterator[Reservation]:
    actor = system_actor("placement", organization_id=organization_id)
    in_force = fleet.reservations(actor=actor).filter(starts_at__lte=now, ends_at__gt=now)
    for row in in_force.order_by("id"):
        make = partial(
            Reservation,
            pool_id=str(row.pool_id),
            instances=row.instances,
            instance_micro_usd_per_h=row.instance_micro_usd_per_h,
        )
        reservation = unsound.read(make, pool_id=row.pool_id)
        if reservation is not None:
            yield reservation


def _profiles(wanted: Iterable[DeploymentToPlace], unsound: Unsound) -> Iterator[PerformanceProfile]:
    """What nobody could be planned by leaves those out whose model it is."""
    deployment_ids: dict[UUID, list[UUID]] = defaultdict(list)
    for row in wanted:
        deployment_ids[row.held.model_version_id].append(row.held.deployment_id)
    for held in catalog.profiles_held(model_version_ids=set(deployment_ids)):
        profile = unsound.read(partial(_profile, held), deployment_ids=deployment_ids[held.model_version_id])
        if profile is not None:
            yield profile


@lru_cache(maxsize=20_000)
def _profile(row: catalog.ProfileHeld) -> PerformanceProfile:
    """Equal rows give the same value, checked once: there are more profiles than of anything else, and few change."""
    fields = row._asdict()
    for name in ("model_version_id", "instance_type_id"):
        fields[name] = str(fields[name])
    return PerformanceProfile(**fields)


def _demands(
    organization_id: UUID,
    wanted: Iterable[DeploymentToPlace],
    regions: set[Region],
    now: datetime,
    unsound: Unsound,
) -> list[Demand]:
    """By usage, and by what owners state; see ``apps.placements.demand``."""
    usage: dict[UUID, list[Usage]] = defaultdict(list)
    for deployment_id, origin, *rates, known_since in selectors.demands_held(organization_id=organization_id):
        usage[deployment_id].append(Usage(origin, Rates(*rates), known_since))
    found: list[Demand] = []
    for row in wanted:
        deployment_id = row.held.deployment_id
        make = partial(
            demand_planned,
            str(deployment_id),
            usage=usage[deployment_id],
            stated=row.demand,
            everywhere=_lets_in(row, regions) if row.demand else (),
            now=now,
        )
        found += unsound.read(make, deployment_ids=(deployment_id,)) or ()
    return found


def _lets_in(row: DeploymentToPlace, regions: set[Region]) -> list[str]:
    """Regions whose gateways let clients of a deployment in."""
    allowed = row.held.residency if row.residency_ingress == ResidencyIngress.REFUSE else ()
    return sorted(region.name for region in regions if not allowed or region.jurisdiction in allowed)


def _elsewhere(demands: Iterable[Demand], regions: set[Region]) -> set[Region]:
    """Regions of clients in which the organization has no cluster."""
    names = {demand.origin_region for demand in demands} - {region.name for region in regions}
    return set(fleet.regions().filter(name__in=names))


def _latencies(origins: set[Region], targets: set[Region], unsound: Unsound) -> Iterator[Latency]:
    """Between all of them, as gateways reckon them: recorded, or guessed from the distance."""
    measured = fleet.latencies_ms(region_ids={region.pk for region in origins | targets})
    for origin in sorted(origins, key=lambda region: region.name):
        for target in sorted(targets - {origin}, key=lambda region: region.name):
            rtt_ms = fleet.rtt_ms(origin, target, measured)
            latency = unsound.read(
                partial(Latency, origin_region=origin.name, target_region=target.name, rtt_ms=rtt_ms)
            )
            if latency is not None:
                yield latency


def _network_prices(targets: set[Region], unsound: Unsound) -> Iterator[NetworkPrice]:
    found = fleet.network_prices().filter(target__in=targets).order_by("origin__name", "target__name")
    for origin, target, price in found.values_list("origin__name", "target__name", "micro_usd_per_gib"):
        known = unsound.read(
            partial(NetworkPrice, origin_region=origin, target_region=target, micro_usd_per_gib=price)
        )
        if known is not None:
            yield known


def _budgets(
    organization_id: UUID, wanted: Iterable[DeploymentToPlace], unsound: Unsound
) -> Iterator[Budget]:
    """Without one that can be planned with, its project's deployments are left out: a budget never gives way."""
    deployment_ids: dict[UUID, list[UUID]] = defaultdict(list)
    for row in wanted:
        deployment_ids[row.held.project_id].append(row.held.deployment_id)
    for project_id, micro_usd_per_h in sorted(accounts.budgets(organization_id=organization_id).items()):
        make = partial(Budget, project_id=str(project_id), micro_usd_per_h=micro_usd_per_h)
        budget = unsound.read(make, deployment_ids=deployment_ids[project_id])
        if budget is not None:
            yield budget
