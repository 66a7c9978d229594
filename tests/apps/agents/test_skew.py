"""A workload plane whose clock is five minutes wrong, either way: nothing is refused, lost or counted backwards."""

import time

import httpx
import msgspec
import pytest
from django.utils import timezone

from apps.agents.models import AgentSession, Replica, ReplicaInterval
from apps.telemetry.models import UsageQuarantine, UsageRecord
from tests.apps.agents.world import delta, enrolled, fleet, meanwhile, observed_replica, placed, scenario
from tests.support.records import usage_record

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("skew_s", [-300.0, 300.0])
def test_a_wrong_clock_does_no_harm(skew_s: float) -> None:
    """Its replicas are known and cost money for as long as they live, its usage is stored, its lease runs."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        began = time.time() + skew_s
        replica = observed_replica(assignment, created_at=began - 1, ready_at=began)
        record = msgspec.structs.replace(
            usage_record("gateway-1", 1),
            finished_at=began,
            project_id=str(project.pk),
            api_key_id=str(project.pk),
            deployment_id=str(assignment.deployment_id),
            revision_id=str(assignment.revision_id),
        )
        answer = await agent.sync(observed=delta(1, {replica.replica_id: replica}), usage=(record,))
        assert (answer.refusal, answer.usage_acknowledged) == (None, {"gateway-1": 1})
        assert await meanwhile(Replica.objects.filter(state="ready").count) == 1
        stopped = msgspec.structs.replace(replica, state="stopped", stopped_at=began + 1)
        assert (await agent.sync(observed=delta(2, {replica.replica_id: stopped}))).refusal is None
        assert (await agent.sync()).refusal is None

    scenario(run)
    assert (UsageRecord.objects.count(), UsageQuarantine.objects.count()) == (1, 0)
    interval = ReplicaInterval.objects.get()
    assert interval.ended_at is not None
    assert interval.started_at <= interval.ended_at <= timezone.now()
    session = AgentSession.objects.get()
    assert session.lease_expires_at is not None and session.lease_expires_at > timezone.now()
