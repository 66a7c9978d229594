"""Drills over REST: who may run them, what is answered, and what is bounded."""

from itertools import count
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.services import api_key_create
from apps.drills.models import Drill
from tests.apps.conftest import Tenant, bearer, pointers
from tests.apps.drills.test_drills import deployed, place_of
from tests.support.fleet_world import FleetWorld, fleet_world

pytestmark = pytest.mark.django_db(transaction=True)

_numbers = count(1)
DRILLS = "/api/v1/drills"


def client(world: FleetWorld, *scopes: str) -> APIClient:
    name = f"key-{next(_numbers)}"
    return bearer(api_key_create(actor=world.actor, project_id=world.project.pk, name=name, scopes=scopes)[1])


def post(api: APIClient, path: str, body: Any = None) -> Any:
    return api.post(path, body, format="json")


def test_a_drill_over_rest_from_what_it_would_touch_to_its_report(rival: Tenant) -> None:
    """With the rights that it takes, bounded input, and nothing of it for strangers."""
    world = fleet_world(instances=8)
    deployed(world)
    api, reader = client(world, "operate", "read"), client(world, "read")
    what = {"kind": "lose-region", "target": place_of(world), "deployment": "chat"}
    preview = post(reader, f"{DRILLS}/preview", what)
    assert preview.status_code == 200, preview.content
    assert preview.json()["promise"]["promised"] is True
    assert preview.json()["refusals"] == []
    assert post(reader, DRILLS, what).status_code == 403
    assert "/limits/error_budget_share" in pointers(
        post(api, DRILLS, {**what, "limits": {"error_budget_share": 2}})
    )
    made = post(api, DRILLS, {**what, "driver": "client", "fault_s": 5})
    assert made.status_code == 201, made.content
    assert post(api, DRILLS, what).status_code == 409
    place = made["Location"]
    for path, body in (("inject", {"at_s": 1}), ("samples", {"sequence": 0, "elapsed_s": 2, "samples": []})):
        assert post(reader, f"{place}/{path}", body).status_code == 403
        assert post(rival.client, f"{place}/{path}", body).status_code == 404
    assert rival.client.get(place).status_code == 404
    assert rival.client.get(DRILLS).json()["items"] == []
    assert post(api, f"{place}/inject", {"at_s": 1}).json()["state"] == "during"
    many = [{"at_s": 2, "outcome": "ok"}] * 1001
    assert post(api, f"{place}/samples", {"sequence": 1, "elapsed_s": 2, "samples": many}).status_code == 400
    told = {
        "sequence": 1,
        "elapsed_s": 2,
        "samples": [{"at_s": 1.5, "ttft_s": 0.2, "outcome": "ok", "region": "us"}],
    }
    assert post(api, f"{place}/samples", told).status_code == 200
    assert post(api, f"{place}/repair", {"at_s": 6}).json()["state"] == "after"
    ended = post(api, f"{place}/report", {"at_s": 8, "detected_at_s": 2}).json()
    assert ended["state"] == "passed"
    assert ended["report"]["phases"][1]["regions"] == [{"region": "us", "share": 1.0}]
    assert ended["report"]["detected_s"] == 1.0
    assert reader.get(DRILLS, {"state": "passed"}).json()["items"][0]["id"] == ended["id"]
    assert post(api, f"{place}/abort").status_code == 409
    assert Drill.objects.count() == 1


def test_a_schedule_over_rest(rival: Tenant) -> None:
    """Made, listed, ended; by those who may."""
    world = fleet_world(instances=8)
    deployed(world)
    api, reader = client(world, "operate", "read"), client(world, "read")
    body = {
        "kind": "lose-region",
        "target": place_of(world),
        "deployment": "chat",
        "every_days": 30,
        "starts_at_utc": "03:30",
    }
    assert post(reader, "/api/v1/drill-schedules", body).status_code == 403
    assert pointers(post(api, "/api/v1/drill-schedules", {**body, "starts_at_utc": "25:00"})) == {
        "/starts_at_utc"
    }
    assert pointers(post(api, "/api/v1/drill-schedules", {**body, "kind": "latency"})) == {"/kind"}
    made = post(api, "/api/v1/drill-schedules", body)
    assert made.status_code == 201, made.content
    assert reader.get("/api/v1/drill-schedules").json()["items"][0]["next_at"].endswith("03:30:00Z")
    assert rival.client.delete(made["Location"]).status_code == 404
    assert reader.delete(made["Location"]).status_code == 403
    assert api.delete(made["Location"]).status_code == 204
    assert api.get("/api/v1/drill-schedules").json()["items"] == []
