"""The console's map of health, and its pages of incidents."""

import pytest
from django.test import Client
from django.utils import timezone

from apps.incidents.models import Incident, IncidentEntry, IncidentRecord
from tests.console.test_pages import logged_in
from tests.console.world import World

pytestmark = pytest.mark.django_db


def incident_of(world: World, **fields: object) -> Incident:
    now = timezone.now()
    values: dict[str, object] = {
        "kind": "region",
        "name": "us-east4",
        "state": "open",
        "severity": "error",
        "cause": "lost",
        "members": [["region", "us-east4"], ["cluster", "us-east"]],
        "evidence": "ejected, lost to 3 of 3 observers, 1.4 s ago",
        "evidence_at": now,
        "opened_at": now,
        "since": now,
    }
    return Incident.objects.create(organization=world.organization, **(values | fields))


def test_the_map_shows_every_region_with_its_evidence_and_what_is_open(client: Client, world: World) -> None:
    """As a page and as the part that is asked for again."""
    row = incident_of(world)
    client = logged_in(client, world.viewer)
    for path in ("/health", "/health?part=live"):
        page = client.get(path).content.decode()
        for name in ("eu-west-1", "us-east4", "japaneast"):
            assert name in page
        assert f"/incidents/{row.pk}" in page
        assert "lost to 3 of 3 observers, 1.4 s ago" in page
        assert "its agent was heard" in page


def test_an_incident_tells_its_time_line_and_ends_in_a_record(client: Client, world: World) -> None:
    """Names are escaped; strangers find nothing."""
    row = incident_of(world)
    IncidentEntry.objects.create(
        incident=row,
        event_id=1,
        at=row.opened_at,
        severity="error",
        reason="IncidentOpened",
        message="<b>gone</b>",
    )
    client = logged_in(client, world.viewer)
    assert "region us-east4" in client.get("/incidents").content.decode()
    page = client.get(f"/incidents/{row.pk}").content.decode()
    assert "&lt;b&gt;gone&lt;/b&gt;" in page
    assert "every 4s" in page
    assert "Record" not in page
    row.state, row.resolved_at = "resolved", timezone.now()
    row.save()
    assert "Record" not in client.get(f"/incidents/{row.pk}").content.decode(), "it is not written yet"
    IncidentRecord.objects.create(incident=row, markdown="# Incident: region us-east4\n")
    page = client.get(f"/incidents/{row.pk}").content.decode()
    assert "# Incident: region us-east4" in page
    assert "every 4s" not in page
    stranger = logged_in(Client(), world.stranger)
    assert "us-east4" not in stranger.get("/incidents").content.decode()
    assert stranger.get(f"/incidents/{row.pk}").status_code == 404
