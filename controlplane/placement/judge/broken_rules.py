"""Which hard rules does a plan break? Own arithmetic, nothing of a solver.

What runs already may stay where nothing new may go (closed pools, unknown prices, no profile); law, room, bounds and
posture bind always. Rooms are judged, ceilings are not: they may share (decision 0004). Where a float or a packing
leaves doubt, the plan has the benefit of it: what is said here is broken for certain.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controlplane.costing import usd_exact, usd_printed
from controlplane.placement.judge.standing import TOLERANCE, Part, Standing, Standings, unlawful, unsuitable
from controlplane.placement.plan import Allocation, DeploymentPlan, PlacementPlan
from controlplane.placement.problem import PlacementProblem
from controlplane.placement.supply import Cluster, Pool
from controlplane.placement.wishes import WantedDeployment
from workloadplane.words import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenRule:
    """A hard rule that a plan breaks.

    rule:           stable identifier, as in a ``Refusal``
    subject:        a deployment, pool or project, named as its user would
    said:           what is wrong
    deployment_ids: whose plans have part in it
    """

    rule: str
    subject: str
    said: str
    deployment_ids: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.subject}: {self.said} (rule {self.rule})"


def broken_rules(
    known: Standings, plan: PlacementPlan, standings: Mapping[str, Standing]
) -> tuple[BrokenRule, ...]:
    """All of them, deployment by deployment, then pools, then budgets. ``standings`` has every entry's."""
    problem = known.problem
    found: list[BrokenRule] = []
    for entry in plan.deployments:
        standing = standings[entry.deployment_id]
        deployment = standing.deployment
        for rule, said in _of_entry(known, standing):
            found.append(
                BrokenRule(
                    rule=rule,
                    subject=f"deployment {deployment.name}",
                    said=said,
                    deployment_ids=(deployment.deployment_id,),
                )
            )
    found.extend(_of_pools(problem, plan))
    found.extend(_of_budgets(problem, plan))
    return tuple(found)


_Found = Iterator[tuple[str, str]]


def _of_entry(known: Standings, standing: Standing) -> _Found:
    deployment, entry = standing.deployment, standing.entry
    if not entry.allocations and entry.refusal is None:
        yield "answer", "it is neither placed nor told why not"
    runs = {(row.pool_id, row.revision_id) for row in known.problem.current_of(deployment.deployment_id)}
    for part in standing.parts:
        where = f"{part.cluster.name}/{part.pool.name}"
        for rule, said in (
            *_of_bounds(part.allocation),
            *_of_place(deployment, part.allocation, part.pool, part.cluster),
            *(
                ()
                if (part.pool.pool_id, part.allocation.revision_id) in runs
                else _of_hardware(deployment, part)
            ),
        ):
            yield rule, f"on {where}, {said}"
    most = sum(row.max_replicas for row in entry.allocations)
    if most > deployment.max_replicas:
        yield "max_replicas", f"up to {counted(most, 'replica')}, of {deployment.max_replicas} at most"
    yield from _of_growth(known.problem, standing)
    if (
        entry.refusal is None
    ):  # what is merely kept may be of another posture; leases see to it that one serves
        yield from _of_posture(standing)
    yield from _of_latency(known, standing)
    yield from _of_traffic(known, standing)


def _of_bounds(row: Allocation) -> _Found:
    if not 0 <= row.min_replicas <= row.max_replicas or row.max_replicas < 1:
        yield "bounds", f"min_replicas {row.min_replicas}, max_replicas {row.max_replicas}"
    if not 0 <= row.planned_replicas <= row.max_replicas:
        yield "bounds", f"planned_replicas {row.planned_replicas}, max_replicas {row.max_replicas}"


def _of_place(deployment: WantedDeployment, row: Allocation, pool: Pool, cluster: Cluster) -> _Found:
    rule = unlawful(deployment, cluster)
    if rule == "residency":
        allowed = ", ".join(deployment.residency)
        yield rule, f"jurisdiction {cluster.jurisdiction or 'unknown'}; allowed is {allowed}"
    elif rule:
        yield rule, f"provider {cluster.provider} is not allowed"
    if not 1 <= row.gpus_per_replica <= pool.gpus_per_instance:
        yield (
            "gpus_per_instance",
            f"{counted(row.gpus_per_replica, 'GPU')} a replica in instances of {pool.gpus_per_instance}",
        )


def _of_hardware(deployment: WantedDeployment, part: Part) -> _Found:
    """For what does not run there yet. An older revision's weights are not in the problem."""
    row = part.allocation
    if row.revision_id != deployment.revision_id:
        return
    if row.gpus_per_replica != deployment.gpus_per_replica:
        yield (
            "gpus_per_replica",
            f"{counted(row.gpus_per_replica, 'GPU')} a replica instead of {deployment.gpus_per_replica}",
        )
    yield from (
        (rule, said) for rule, said in unsuitable(deployment, part.pool) if rule != "gpus_per_instance"
    )


def _of_growth(problem: PlacementProblem, standing: Standing) -> _Found:
    """More than is held, where only what is held may be."""
    held: dict[str, int] = defaultdict(int)
    for row in problem.current_of(standing.deployment.deployment_id):
        held[row.pool_id] += row.room_replicas
    rooms: dict[str, int] = defaultdict(int)
    for part in standing.parts:
        rooms[part.pool.pool_id] += max(1, part.allocation.room_replicas)
    for part in {part.pool.pool_id: part for part in standing.parts}.values():
        pool, cluster = part.pool, part.cluster
        allowed = max(1, held[pool.pool_id]) if pool.pool_id in held else 0
        if rooms[pool.pool_id] <= allowed:
            continue
        where = f"on {cluster.name}/{pool.name}, {counted(rooms[pool.pool_id], 'replica')} of which {allowed} are held"
        if cluster.closed:
            yield "cluster_closed", f"{where}; cluster {cluster.name}: {cluster.closed}"
        if pool.closed:
            yield "pool_closed", f"{where}; {pool.closed}"
        if pool.instance_micro_usd_per_h is None:
            yield "price_unknown", f"{where}; no price is in force"
        if standing.planned_by == "demand" and part.share_each == 0:
            yield "profile", f"{where}; what one serves was not measured on {pool.instance_type}"


def _of_posture(standing: Standing) -> _Found:
    clusters: dict[bool, set[str]] = {False: set(), True: set()}
    for part in standing.parts:
        clusters[part.allocation.standby].add(part.cluster.name)
    serving, standby = clusters[False], clusters[True]
    if standing.deployment.posture == "active_active":
        if standby:
            yield "posture", f"a standby in {', '.join(sorted(standby))}, though all clusters serve"
        return
    if len(serving) > 1:
        yield "posture", f"active_passive, and {' and '.join(sorted(serving))} serve"
    if len(standby) > 1:
        yield "posture", f"its standby is in {' and '.join(sorted(standby))}"
    if serving & standby:
        yield "posture", f"its standby is in {', '.join(sorted(serving & standby))}, where it serves"


def _of_latency(known: Standings, standing: Standing) -> _Found:
    """Only what is known to be too far is broken; the plan may say that it gave this wish up, or refused all."""
    target_s = standing.deployment.slo.ttft_s_p95
    given_up = any(refusal.rule == "latency" for refusal in standing.entry.relaxed)
    if target_s is None or given_up or standing.entry.refusal is not None:
        return
    origins = known.origins(standing.deployment.deployment_id)
    for cluster in {part.cluster.cluster_id: part.cluster for part in standing.parts}.values():
        rtts_s = [known.rtt_s(row.origin_region, cluster.region) for row in origins]
        if rtts_s and all(rtt_s is not None and rtt_s > target_s for rtt_s in rtts_s):
            yield (
                "latency",
                f"{cluster.name} is further from every origin than the first token may take ({target_s:g} s)",
            )


def _of_traffic(known: Standings, standing: Standing) -> _Found:
    shares: dict[str, float] = defaultdict(float)
    serving = {part.cluster.cluster_id for part in standing.parts if not part.allocation.standby}
    for row in standing.entry.traffic:
        shares[row.origin_region] += row.share
        if row.share < 0 or (row.share > 0 and row.cluster_id not in serving):
            name = getattr(known.problem.cluster_by_id.get(row.cluster_id), "name", row.cluster_id)
            yield (
                "traffic",
                f"{row.share:.3g} of {row.origin_region}'s requests go to {name}, where it does not serve",
            )
    for origin, share in shares.items():
        if abs(share - 1) > TOLERANCE:
            yield "traffic", f"{origin}'s requests are shared out as {share:.6g}, not 1"
    if standing.parts and standing.entry.refusal is None:
        for demand in known.origins(standing.deployment.deployment_id):
            if demand.origin_region not in shares:
                yield "traffic", f"{demand.origin_region}'s requests go nowhere"


def _of_pools(problem: PlacementProblem, plan: PlacementPlan) -> Iterator[BrokenRule]:
    """Rooms and what is on its way out, in whole instances."""
    sizes: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    users: dict[str, list[str]] = defaultdict(list)
    for entry in plan.deployments:
        for row in entry.allocations:
            if row.room_replicas > 0:
                sizes[row.pool_id][row.gpus_per_replica] += row.room_replicas
                users[row.pool_id].append(entry.deployment_id)
    for pool_id, gpus, replicas in _outgoing(problem, plan):
        sizes[pool_id][gpus] += replicas
    for pool_id in sorted(users):
        pool = problem.pool_by_id[pool_id]
        if not fits(pool.capacity_instances, pool.gpus_per_instance, sizes[pool_id]):
            printed = ", ".join(
                f"{count} of {counted(gpus, 'GPU')}" for gpus, count in sorted(sizes[pool_id].items())
            )
            yield BrokenRule(
                rule="pool_capacity",
                subject=f"pool {problem.cluster_by_id[pool.cluster_id].name}/{pool.name}",
                said=(
                    f"{printed} do not fit into {counted(pool.capacity_instances, 'instance')}"
                    f" of {counted(pool.gpus_per_instance, 'GPU')}"
                ),
                deployment_ids=tuple(dict.fromkeys(users[pool_id])),
            )


def _outgoing(problem: PlacementProblem, plan: PlacementPlan) -> Iterator[tuple[str, int, int]]:
    """(pool id, GPUs per replica, replicas) on their way out, less those in whose GPUs successors have their room."""
    room_gpus: dict[tuple[str, str], int] = defaultdict(int)
    for entry in plan.deployments:
        for row in entry.allocations:
            room_gpus[entry.deployment_id, row.pool_id] += row.room_replicas * row.gpus_per_replica
    for occupancy in problem.occupancies:
        key = (occupancy.deployment_id, occupancy.pool_id)
        handed_over = min(occupancy.replicas, -(-room_gpus[key] // occupancy.gpus_per_replica))
        room_gpus[key] = max(0, room_gpus[key] - handed_over * occupancy.gpus_per_replica)
        if occupancy.replicas > handed_over:
            yield occupancy.pool_id, occupancy.gpus_per_replica, occupancy.replicas - handed_over


def fits(instances: int, gpus_per_instance: int, replicas_by_gpus: Mapping[int, int]) -> bool:
    """Whether replicas fit into instances whole. By shares of an instance, or else by first fit, largest first."""
    wanted = {gpus: count for gpus, count in replicas_by_gpus.items() if count > 0}
    if any(gpus > gpus_per_instance for gpus in wanted):
        return False
    if sum(gpus * count for gpus, count in wanted.items()) > instances * gpus_per_instance:
        return False
    if sum(count / (gpus_per_instance // gpus) for gpus, count in wanted.items()) <= instances + TOLERANCE:
        return True
    free = [gpus_per_instance] * instances
    for gpus in sorted(wanted, reverse=True):
        first = 0
        for _ in range(wanted[gpus]):
            while first < instances and free[first] < gpus:
                first += 1
            if first == instances:
                return False
            free[first] -= gpus
    return True


def _of_budgets(problem: PlacementProblem, plan: PlacementPlan) -> Iterator[BrokenRule]:
    """What a project's rooms cost by the plan's own figures, which must not be lower than what its pools cost. What is
    merely kept is no fault of the plan, however dear."""
    yield from _of_prices(problem, plan)
    budgets = {row.project_id: row.micro_usd_per_h for row in problem.budgets}
    entries: dict[str, list[DeploymentPlan]] = defaultdict(list)
    for entry in plan.deployments:
        entries[problem.deployment_by_id[entry.deployment_id].project_id].append(entry)
    for project_id, budget in sorted(budgets.items()):
        spent = sum(entry.micro_usd_per_h for entry in entries[project_id])
        if spent > budget and any(_grows(problem, entry) for entry in entries[project_id]):
            yield BrokenRule(
                rule="budget",
                subject=f"project {project_id}",
                said=f"{usd_exact(spent)} USD/h, of {usd_exact(budget)} at most",
                deployment_ids=tuple(entry.deployment_id for entry in entries[project_id]),
            )


def _grows(problem: PlacementProblem, entry: DeploymentPlan) -> bool:
    held: dict[str, int] = defaultdict(int)
    for current in problem.current_of(entry.deployment_id):
        held[current.pool_id] += current.room_replicas
    rooms: dict[str, int] = defaultdict(int)
    for row in entry.allocations:
        rooms[row.pool_id] += row.room_replicas
    return any(rooms[pool_id] > held[pool_id] for pool_id in rooms)


def _of_prices(problem: PlacementProblem, plan: PlacementPlan) -> Iterator[BrokenRule]:
    stated: dict[str, int] = defaultdict(int)
    gpus: dict[str, int] = defaultdict(int)
    users: dict[str, list[str]] = defaultdict(list)
    for entry in plan.deployments:
        for row in entry.allocations:
            stated[row.pool_id] += row.micro_usd_per_h
            gpus[row.pool_id] += row.room_replicas * row.gpus_per_replica
            users[row.pool_id].append(entry.deployment_id)
    for pool_id in sorted(stated):
        tariff = problem.tariff_by_pool[pool_id]
        rented, reserved = tariff.instance_micro_usd_per_h, tariff.reserved_instance_micro_usd_per_h
        covered = min(gpus[pool_id], tariff.reserved_gpus)
        instances_cost = covered * min(reserved, rented) + (gpus[pool_id] - covered) * rented
        if stated[pool_id] < instances_cost // tariff.gpus_per_instance - 1:
            pool = problem.pool_by_id[pool_id]
            yield BrokenRule(
                rule="price",
                subject=f"pool {problem.cluster_by_id[pool.cluster_id].name}/{pool.name}",
                said=(
                    f"{usd_printed(stated[pool_id])} USD/h are stated for {counted(gpus[pool_id], 'GPU')},"
                    f" less than the {usd_printed(instances_cost // tariff.gpus_per_instance)} of the instances"
                ),
                deployment_ids=tuple(dict.fromkeys(users[pool_id])),
            )
