"""What a drill would touch, as the certificate has it."""

from controlplane.placement import FailureDomain, certify, solve
from controlplane.placement.questions.drill import blast_radius
from tests.controlplane.placement import worlds


def test_everybody_with_a_part_in_it_is_told_with_what_the_certificate_promises() -> None:
    """Replicas, share of the traffic and rent there; who has no part in it is not touched."""
    problem = worlds.problem(
        worlds.wanted("both", survivability="region", min_replicas=2, max_replicas=4),
        worlds.wanted("elsewhere", residency=("us",), min_replicas=1, max_replicas=1),
    )
    plan = solve(problem)
    regions = {cluster.cluster_id: cluster.region for cluster in problem.cluster_by_id.values()}
    for region in sorted(set(regions.values())):
        domain = FailureDomain(kind="region", name=region)
        there = {
            entry.deployment_id: sum(
                row.room_replicas
                for row in entry.allocations
                if regions[problem.pool_by_id[row.pool_id].cluster_id] == region
            )
            for entry in plan.deployments
        }
        found = {one.deployment_id: one for one in blast_radius(problem, plan, domain)}
        assert {key: one.replicas_there for key, one in found.items()} == {
            k: n for k, n in there.items() if n
        }
        losses = {loss.deployment_id: loss for loss in certify(problem, plan).losses if loss.domain == domain}
        for key, one in found.items():
            assert one.loss == losses[key]
            assert 0 < one.traffic_share <= 1
            assert one.micro_usd_per_h_there > 0
            assert not one.serving_there, "nobody serves alone here"
