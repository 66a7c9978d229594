"""Usage and metric windows over the real wire: stored once, acknowledged, never in the way."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from django.utils import timezone

from apps.accounts.models import Project
from apps.api.actors import system_actor
from apps.placements.models import Assignment
from apps.telemetry.models import Event, MetricWindow, UsageQuarantine, UsageRecord
from apps.telemetry.selectors import latency_series, usage_totals
from tests.apps.agents.world import enrolled, fleet, placed, scenario
from tests.support.records import usage_record
from workloadplane.protocol import usage as wire

pytestmark = pytest.mark.django_db(transaction=True)

GATEWAY = "5b2f3c8e-0000-4000-8000-000000000001"


def record(assignment: Assignment, sequence: int, **changes: Any) -> wire.UsageRecord:
    """A finished request of a deployment."""
    ids = {
        "project_id": str(assignment.deployment.project_id),
        "api_key_id": str(uuid.uuid4()),
        "deployment_id": str(assignment.deployment_id),
        "revision_id": str(assignment.revision_id),
        "replica_id": None,
        "pool_id": str(assignment.pool_id),
        "served_cluster_id": str(assignment.pool.cluster_id),
        "finished_at": timezone.now().timestamp(),
    }
    return usage_record(GATEWAY, sequence, **{**ids, **changes})


def window(assignment: Assignment, sequence: int, *, ended_at: datetime, **changes: Any) -> wire.MetricWindow:
    """Ten seconds in which twenty requests had their first token within 0.1 s."""
    counts = [0] * (len(wire.LATENCY_BUCKETS_S) + 1)
    counts[14] = 20
    histogram = wire.LatencyHistogram(counts=tuple(counts), sum_s=2.0)
    made = wire.MetricWindow(
        gateway_instance=GATEWAY,
        sequence=sequence,
        started_at=(ended_at - timedelta(seconds=10)).timestamp(),
        ended_at=ended_at.timestamp(),
        deployment_id=str(assignment.deployment_id),
        revision_id=str(assignment.revision_id),
        requests=20,
        errors=1,
        input_tokens=200,
        output_tokens=400,
        in_flight_max=4,
        waiting_max=0,
        ttft=histogram,
        inter_token_latency=histogram,
        duration=histogram,
    )
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def project() -> Project:
    return fleet()


@pytest.fixture
def assignment(project: Project) -> Assignment:
    return placed(project, "chat", "eu-west")


def test_what_is_delivered_twice_is_counted_once(project: Project, assignment: Assignment) -> None:
    """Sums equal what was served, however often a batch comes and whichever agent brings it."""

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        batch = tuple(
            record(assignment, sequence, audio_input_s=1.5, input_characters=7) for sequence in range(1, 51)
        )
        assert (await agent.sync(usage=batch[:30])).usage_acknowledged == {GATEWAY: 30}
        assert (await agent.sync(usage=batch[:30])).usage_acknowledged == {GATEWAY: 30}
        successor = agent.instance()
        assert (await successor.sync(usage=batch)).usage_acknowledged == {GATEWAY: 50}

    scenario(run)
    actor = system_actor("tests", organization_id=project.organization_id, project_id=project.pk)
    now = timezone.now()
    (total,) = usage_totals(actor=actor, start=now - timedelta(hours=1), end=now)
    assert (total.deployment, total.requests, total.input_tokens, total.output_tokens) == (
        "chat", 50, 50 * 12, 50 * 34,
    )  # fmt: skip
    assert (total.audio_input_s, total.input_characters) == (75.0, 350)


def test_a_superseded_instance_still_delivers(project: Project, assignment: Assignment) -> None:
    """What it served was served; the refusal is about what it may decide, not about what it counted."""

    async def run(http: httpx.AsyncClient) -> None:
        old = await enrolled(http, project)
        await old.sync()
        await old.instance().sync()
        answer = await old.sync(usage=(record(assignment, 1),))
        assert answer.refusal is not None
        assert answer.usage_acknowledged == {GATEWAY: 1}
        behind = await old.sync(usage=(record(assignment, 2),), plane_epoch=9)
        assert behind.usage_acknowledged == {}

    scenario(run)
    assert UsageRecord.objects.count() == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"project_id": "00000000-0000-4000-8000-000000000000"},
        {"project_id": "'; DROP TABLE"},
        {"deployment_id": "?"},
        {"input_tokens": -1},
        {"output_tokens": 2**64},
        {"input_characters": -1},
        {"audio_input_s": -1.0},
        {"status": 99_999},
        {"finished_at": 1e18},
        {"request_id": "x" * 65},
        {"origin": "nul\x00"},
    ],
)
def test_what_cannot_be_booked_is_put_aside_and_holds_nobody_up(
    project: Project, assignment: Assignment, changes: dict[str, Any]
) -> None:
    """It is acknowledged, kept as it came, and told; those around it are stored."""

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        batch = (record(assignment, 1), record(assignment, 2, **changes), record(assignment, 3))
        for _ in range(2):
            assert (await agent.sync(usage=batch)).usage_acknowledged == {GATEWAY: 3}

    scenario(run)
    assert list(UsageRecord.objects.order_by("sequence").values_list("sequence", flat=True)) == [1, 3]
    aside = UsageQuarantine.objects.get()
    assert msgspec.json.decode(bytes(aside.record), type=wire.UsageRecord).sequence == 2
    assert Event.objects.filter(reason="UsageQuarantined", severity="warning").exists()


def test_another_organizations_project_cannot_be_charged(project: Project) -> None:
    """A cluster reports for its own organization alone."""
    rival = placed(fleet("rival", ("rival-west",)), "theirs", "rival-west")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync(usage=(record(rival, 1),))

    scenario(run)
    assert (UsageRecord.objects.count(), UsageQuarantine.objects.count()) == (0, 1)


@pytest.mark.parametrize(
    "changes", [{"gateway_instance": "x" * 37}, {"gateway_instance": ""}, {"sequence": 0}]
)
def test_a_record_without_a_name_is_dropped_with_an_event(
    project: Project, assignment: Assignment, changes: dict[str, Any]
) -> None:
    """It could not be told from another; its agent is not held up for ever."""

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        nameless = msgspec.structs.replace(record(assignment, 1), **changes)
        answer = await agent.sync(usage=(nameless,))
        assert answer.usage_acknowledged.get(changes.get("gateway_instance", GATEWAY)) is not None

    scenario(run)
    assert Event.objects.get(severity="error").reason == "SpoolUnreadable"


def test_a_gap_is_told_and_passed(project: Project, assignment: Assignment) -> None:
    """Records that were lost with a disk do not stop those behind them."""

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        await agent.sync(usage=(record(assignment, 1),))
        answer = await agent.sync(usage=(record(assignment, 4), record(assignment, 5)))
        assert answer.usage_acknowledged == {GATEWAY: 5}

    scenario(run)
    assert "usage records 2 to 3" in Event.objects.get(reason="SpoolGap").message


def test_windows_become_a_series(project: Project, assignment: Assignment) -> None:
    """Each window counts in the steps that it overlaps by its share; steps without traffic have no latency."""
    end = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        made = tuple(
            window(assignment, number, ended_at=end - timedelta(seconds=10 * (number - 1)))
            for number in (1, 2, 3)
        )
        bad = window(assignment, 4, ended_at=end, ttft=wire.LatencyHistogram(counts=(1,), sum_s=1.0))
        answer = await agent.sync(windows=(*made, bad))
        assert answer.windows_acknowledged == {GATEWAY: 4}
        assert (await agent.sync(windows=made)).windows_acknowledged == {GATEWAY: 4}

    scenario(run)
    assert MetricWindow.objects.count() == 3
    points = latency_series(
        deployment=assignment.deployment,
        start=end - timedelta(seconds=60),
        end=end,
        step=timedelta(seconds=15),
    )
    assert [round(point.requests_per_s, 6) for point in points] == [0, 0, 2, 2]
    assert [round(point.output_tokens_per_s, 6) for point in points] == [0, 0, 40, 40]
    assert points[0].ttft_s_p50 is None
    assert points[3].ttft_s_p99 == pytest.approx(0.128, rel=0.01)
    with pytest.raises(ValueError, match="steps"):
        latency_series(deployment=assignment.deployment, start=end, end=end, step=timedelta(seconds=15))
