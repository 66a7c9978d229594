"""What is observed is kept for a time, usage for ever."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.telemetry.models import Event
from apps.telemetry.services import event_record, telemetry_purge
from tests.apps.agents.world import fleet

pytestmark = pytest.mark.django_db


def test_old_events_are_forgotten_and_new_ones_kept() -> None:
    """Running it twice or late changes nothing more."""
    project = fleet()
    for reason in ("Old", "New"):
        event_record(organization_id=project.organization_id, reason=reason, message="m")
    now = timezone.now()
    Event.objects.filter(reason="Old").update(at=now - timedelta(days=91))
    assert [telemetry_purge(now=now), telemetry_purge(now=now)] == [1, 0]
    assert Event.objects.get().reason == "New"


def test_a_message_with_anything_in_it_is_recorded() -> None:
    """Too long is cut, what PostgreSQL refuses is replaced."""
    project = fleet()
    event = event_record(organization_id=project.organization_id, reason="R", message="a\x00" + "b" * 5000)
    event.refresh_from_db()
    assert (event.message[:3], len(event.message)) == ("a\ufffdb", 2047)
