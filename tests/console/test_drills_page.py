"""The console's history of drills."""

from dataclasses import asdict

import pytest
from django.test import Client
from django.utils import timezone

from apps.drills.models import Drill
from controlplane.failover import NOTHING_LOST, DrillLimits
from tests.console.test_pages import logged_in
from tests.console.world import World

pytestmark = pytest.mark.django_db


def drill_of(world: World, **fields: object) -> Drill:
    """A row as if it had been started."""
    values: dict[str, object] = {
        "organization": world.organization,
        "project_id": world.chat.project_id,
        "deployment_id": world.chat.pk,
        "deployment": "chat",
        "kind": "lose-region",
        "target": "eu-west-1",
        "method": "weights",
        "driver": "plane",
        "state": "before",
        "created_by": "user:admin",
        "plan_generation": 7,
        "blast": {},
        "promise": asdict(NOTHING_LOST) | {"basis": "certificate"},
        "limits": asdict(DrillLimits()),
        "fault_s": 60.0,
        "started_at": timezone.now(),
        "deadline_at": timezone.now(),
    }
    return Drill.objects.create(**(values | fields))


def test_the_history_shows_both_sides_and_one_under_way_can_be_ended(client: Client, world: World) -> None:
    """Promise, measurement and difference; an operator ends what goes on, a viewer and a stranger do not."""
    difference = {"rule": "moved", "promised": "the others take all", "measured": "<9 %> stayed"}
    report = {"served_share": 0.98, "detected_s": 1.2, "last_failed_s": 0.4, "differences": [difference]}
    drill_of(world, state="differs", report=report, ended_at=timezone.now())
    under_way = drill_of(world)
    admin = logged_in(client, world.admin)
    page = admin.get("/drills").content.decode()
    for said in (
        "differs",
        "the others take all, but &lt;9 %&gt; stayed",
        "100 % served",
        "ejected after 1.2 s",
    ):
        assert said in page
    assert page.count("/abort") == 1
    viewer = logged_in(Client(), world.viewer)
    assert "/abort" not in viewer.get("/drills?part=rows").content.decode()
    assert viewer.post(f"/drills/{under_way.pk}/abort").status_code == 403
    stranger = logged_in(Client(), world.stranger)
    assert stranger.post(f"/drills/{under_way.pk}/abort").status_code == 404
    admin.post(f"/drills/{under_way.pk}/abort")
    under_way.refresh_from_db()
    assert under_way.state == "aborted"
    late = admin.post(f"/drills/{under_way.pk}/abort", follow=True)
    assert "nothing follows this state" in late.content.decode()
