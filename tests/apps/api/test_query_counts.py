"""A list costs the same number of queries whether it shows one object or many.

``query_counts.json`` holds the number for each list, the caller's authentication included. A number that rises is seen
in review; one that grows with the objects is found here.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.accounts.models import Role
from apps.accounts.services import api_key_create, member_add, user_create
from apps.api.actors import Actor, system_actor
from apps.catalog import services as catalog
from apps.deployments.services import deployment_create
from apps.drains.services import drain_start
from apps.drills.models import Drill, DrillSchedule
from apps.fleet import selectors as fleet_selectors
from apps.fleet import services as fleet
from apps.incidents.models import Incident, IncidentDeployment
from apps.incidents.services import webhook_add
from tests.apps.conftest import Tenant

pytestmark = pytest.mark.django_db

COUNTS: dict[str, int] = json.loads((Path(__file__).parent / "query_counts.json").read_text())


@pytest.fixture
def grow(acme: Tenant, settings: LazySettings) -> Callable[[int], None]:
    """Adds one more of everything that lists show."""
    settings.MERIDIAN_WEBHOOK_DOMAINS = ["pager.example"]
    actor = system_actor("tests", organization_id=acme.project.organization_id, project_id=acme.project.pk)

    def one_more(number: int) -> None:
        _fleet_grow(actor, number)
        _catalog_grow(actor, number)
        deployment_create(
            actor=actor,
            document={"name": f"d{number}", "model": f"m{number}", "engine": "simulator"},
        )
        api_key_create(actor=actor, project_id=acme.project.pk, name=f"k{number}", scopes=["read"])
        _drills_grow(acme, number)
        user_create(actor=actor, username=f"u{number}")
        member_add(
            actor=actor,
            organization_id=acme.project.organization_id,
            username=f"u{number}",
            role=Role.VIEWER,
        )

    return one_more


def _fleet_grow(actor: Actor, number: int) -> None:
    assert actor.organization_id is not None
    assert actor.project_id is not None
    fleet.provider_create(actor=actor, name=f"p{number}", kind="aws")
    fleet.region_create(
        actor=actor, name=f"r{number}", provider=f"p{number}", jurisdiction="eu", latitude=0, longitude=0
    )
    fleet.latency_set(actor=actor, origin=f"r{number}", target=f"r{number}", rtt_ms=1)
    fleet.network_price_set(actor=actor, origin=f"r{number}", target=f"r{number}", micro_usd_per_gib=1)
    fleet.gpu_type_create(actor=actor, name=f"g{number}", vendor="nvidia", memory_gib=24, precisions=["bf16"])
    fleet.instance_type_create(actor=actor, name="m", provider=f"p{number}", gpu_type=f"g{number}", gpus=8)
    cluster = fleet.cluster_create(
        actor=actor, organization_id=actor.organization_id, name=f"c{number}", region=f"r{number}"
    )
    pool = fleet.pool_create(
        actor=actor,
        cluster=cluster,
        name="main",
        instance_type="m",
        procurement="reserved",
        capacity_instances=1,
        price_micro_usd_per_h=1,
    )
    now = timezone.now()
    drain_start(
        actor=actor, organization_id=actor.organization_id, kind="cluster", name=f"c{number}", now=now
    )
    webhook_add(actor=actor, url=f"https://p{number}.pager.example/")
    incident = Incident.objects.create(
        organization_id=actor.organization_id, kind="region", name=f"r{number}", state="open", severity="error",
        cause="lost", members=[["region", f"r{number}"]], evidence_at=now, opened_at=now, since=now,
    )  # fmt: skip
    IncidentDeployment.objects.create(
        incident=incident, deployment_id=cluster.pk, project_id=actor.project_id, deployment="d", counted_since=now
    )  # fmt: skip
    fleet.reservation_create(
        actor=actor,
        pool=pool,
        instances=1,
        price_micro_usd_per_h=1,
        starts_at=now,
        ends_at=now + timedelta(days=1),
    )


def _drills_grow(acme: Tenant, number: int) -> None:
    now = timezone.now()
    both = {
        "organization_id": acme.project.organization_id,
        "project_id": acme.project.pk,
        "deployment": "d1",
        "kind": "lose-region",
        "target": f"r{number}",
        "limits": {},
        "fault_s": 1.0,
    }
    drill = Drill.objects.create(
        **both,
        deployment_id=acme.project.pk,
        method="weights",
        driver="plane",
        state="passed",
        plan_generation=1,
        blast={"clusters": 1, "regions": [], "deployments": [], "others": 0},
        promise={
            "basis": "certificate",
            "promised": True,
            "served_share": 1,
            "margin_share": 0,
            "recovery_s": 1,
        }
        | {"regions": []},
        started_at=now,
        deadline_at=now,
        ended_at=now,
    )
    DrillSchedule.objects.create(
        **both, every_days=1, starts_at_utc="03:30", window_minutes=1, next_at=now, last_drill=drill
    )


def _catalog_grow(actor: Actor, number: int) -> None:
    assert actor.project_id is not None
    model = catalog.model_create(actor=actor, project_id=actor.project_id, name=f"m{number}")
    version = catalog.model_version_create(
        actor=actor,
        model=model,
        version="1",
        digest="sha256:" + "0" * 64,
        source_uri="s3://w/m",
        precision="bf16",
        size_bytes=1,
        max_context_tokens=1,
    )
    machine = fleet_selectors.instance_types(provider=f"p{number}").get()
    catalog.profile_create(
        actor=actor,
        model_version=version,
        instance_type=machine,
        requests_per_s=1,
        tokens_per_s=1,
        concurrency=1,
    )
    catalog.engine_image_create(
        actor=actor, engine="simulator", version="1", digest=f"sha256:{number:064x}", arguments={}
    )


def test_lists_cost_what_is_written_down_however_long_they_are(
    acme: Tenant, grow: Callable[[int], None]
) -> None:
    """One object or five: the same queries, and as many as the file says."""
    client = acme.client
    client.get("/api/v1/me")  # notes the key's use, once a minute
    grow(1)
    found: dict[int, dict[str, int]] = {1: {}, 5: {}}
    for size, counts in found.items():
        for number in range(2, size + 1):
            grow(number)
        for path in COUNTS:
            with CaptureQueriesContext(connection) as queries:
                response = client.get(f"/api/v1/{path}")
            assert response.status_code == 200, response.content
            counts[path] = len(queries)
    assert found[1] == found[5], (
        "a list asks once more for each object: add select_related or prefetch_related"
    )
    assert found[5] == COUNTS, "correct tests/apps/api/query_counts.json if the change is meant"
