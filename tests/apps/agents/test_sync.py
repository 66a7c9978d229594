"""Enrolment and sync over the real wire: who is heard, what is sent, what is refused."""

import httpx
import pytest

from tests.apps.agents.world import enrolled, fleet, placed, scenario
from workloadplane.protocol.desired import DesiredAssignment, DesiredHeader
from workloadplane.protocol.routing import KeySetHeader, Route, RoutingHeader

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_enrolled_agent_is_sent_what_its_cluster_shall_run() -> None:
    """From a token to verified tables in two calls: desired state, routes, keys."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await enrolled(http, project, "us-east")
        answer = await agent.sync()
        assert answer.refusal is None
        header = agent.header("desired", DesiredHeader)
        assert (header.cluster_name, header.jurisdiction) == ("eu-west", "eu")
        assert [(pool.name, pool.capacity_gpus) for pool in header.pools] == [("main", 8)]
        desired = agent.entries("desired", DesiredAssignment)
        assert list(desired) == [str(assignment.pk)]
        entry = desired[str(assignment.pk)]
        assert (entry.deployment, entry.model.name, entry.engine.engine) == (
            "chat",
            "tiny-llama",
            "simulator",
        )
        assert (entry.autoscaling.min_replicas, entry.autoscaling.max_replicas) == (1, 2)
        route = agent.entries("routing", Route)[str(assignment.deployment_id)]
        assert [(r.weight, r.cluster_ids) for r in route.revisions] == [(100, (header.cluster_id,))]
        peers = agent.header("routing", RoutingHeader).peers
        assert [(peer.cluster_name, peer.url) for peer in peers] == [("us-east", "http://127.0.0.1:9000")]
        assert agent.identity is not None
        assert agent.header("keyset", KeySetHeader).signing_keys == agent.identity.signing_keys

    scenario(run)
