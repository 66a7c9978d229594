"""Many who change one deployment at once, while it is being placed."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection
from rest_framework.test import APIClient

from apps.deployments.models import Deployment
from apps.deployments.services import deployment_create
from apps.placements.models import PlacementPlan
from apps.placements.services import placements_solve
from tests.apps.placements.test_plan_questions_api import holder
from tests.support.fleet_world import FleetWorld, fleet_world

pytestmark = pytest.mark.django_db(transaction=True)

CHAT = "/api/v1/deployments/chat"
WRITERS = 4


def test_no_change_is_lost_and_the_plan_in_force_is_of_the_last() -> None:
    """Each raises what it has read by one, and reads again where somebody else was faster."""
    world = fleet_world()
    deployment_create(actor=world.actor, document=world.document())
    client = holder(world.project, "read", "deploy")
    begin = Barrier(WRITERS)
    with ThreadPoolExecutor(WRITERS) as pool:
        statuses = [pool.submit(_write, client, world, begin) for _ in range(WRITERS)]
        answered = [status for one in statuses for status in one.result()]
    assert set(answered) <= {202, 412}
    changed = Deployment.objects.get(name="chat")
    assert (changed.priority, changed.generation) == (WRITERS, 1 + WRITERS)
    placements_solve(organization_id=world.organization.pk)
    plans = list(PlacementPlan.objects.order_by("plan_generation").values_list("plan_generation", flat=True))
    assert plans == list(range(1, len(plans) + 1))
    (entry,) = client.get("/api/v1/plans/latest?deployment=chat").json()["deployments"]
    assert entry["generation"] == changed.generation


def _write(client: APIClient, world: FleetWorld, begin: Barrier) -> list[int]:
    """The statuses of what one writer sent; each has placed what was wanted, too."""
    statuses: list[int] = []
    try:
        begin.wait()
        while 202 not in statuses:
            seen = client.get(CHAT)
            body = {"priority": seen.json()["priority"] + 1}
            answer = client.patch(CHAT, body, format="json", headers={"if-match": seen["ETag"]})
            statuses.append(answer.status_code)
            if answer.status_code not in (202, 412):
                return statuses
            placements_solve(organization_id=world.organization.pk)
    finally:
        connection.close()
    return statuses
