"""Drains over REST: who may order them, what is answered, and what a key learns of other projects."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import api_key_create
from apps.api.actors import system_actor
from apps.catalog.models import Model
from apps.deployments.services import deployment_create
from apps.drains.models import Drain
from apps.placements.services import placements_solve
from tests.apps.conftest import bearer, pointers
from tests.apps.placements.moves import agents_work
from tests.support.fleet_world import FleetWorld, fleet_world, model_version

pytestmark = pytest.mark.django_db(transaction=True)

_numbers = count(1)
DRAINS = "/api/v1/drains"
US = {"kind": "cluster", "name": "us-east"}


@pytest.fixture
def world() -> Iterator[FleetWorld]:
    made = fleet_world()
    deployment_create(actor=made.actor, document=made.document())
    placements_solve(organization_id=made.organization.pk)
    agents_work()
    yield made


def client(world: FleetWorld, *scopes: str, project: Project | None = None) -> APIClient:
    project = project or world.project
    actor = system_actor("tests", organization_id=project.organization_id, project_id=project.pk)
    return bearer(
        api_key_create(actor=actor, project_id=project.pk, name=f"key-{next(_numbers)}", scopes=scopes)[1]
    )


def post(api: APIClient, path: str = DRAINS, body: Any = None, **headers: str) -> Any:
    return api.post(path, body, format="json", **headers)  # type: ignore[arg-type]


def test_a_drain_is_ordered_seen_and_lifted(world: FleetWorld) -> None:
    """With its progress by deployment; asking again with the same key is answered with the same drain."""
    api = client(world, "operate", "read")
    made = post(api, body=US, HTTP_IDEMPOTENCY_KEY="once")
    assert made.status_code == 201, made.content
    again = post(api, body=US, HTTP_IDEMPOTENCY_KEY="once")
    assert (again.status_code, again.json()["id"]) == (201, made.json()["id"])
    assert again["Idempotent-Replayed"] == "true"
    shown = api.get(made["Location"]).json()
    assert (shown["state"], shown["kind"], shown["name"]) == ("moving", "cluster", "us-east")
    assert shown["progress"]["deployments"] == [{"deployment": "chat", "here": 1, "wanted": 0, "ready": 0}]
    assert [row["id"] for row in api.get(DRAINS, {"ended": "false"}).json()["items"]] == [shown["id"]]
    assert api.get(DRAINS, {"ended": "true"}).json()["items"] == []
    assert post(api).status_code == 400
    assert post(api, body=US).status_code == 409
    lifted = post(api, f"{made['Location']}/lift")
    assert (lifted.status_code, lifted.json()["state"]) == (200, "cancelled")
    late = post(api, f"{made['Location']}/lift")
    assert (late.status_code, late.json()["type"]) == (409, "urn:meridian:problem:conflict")


def test_a_refusal_says_for_whom_what_and_what_would_help(world: FleetWorld) -> None:
    """As a problem document with the refusals; the preview says the same and stores nothing either."""
    deployment_create(actor=world.actor, document=world.document("local", residency=["us"]))
    placements_solve(organization_id=world.organization.pk)
    refused = post(client(world, "operate"), body=US)
    assert refused.status_code == 422
    (refusal,) = refused.json()["refusals"]
    assert (refusal["rule"], refusal["subject"]) == ("nowhere", "deployment local")
    preview = post(client(world, "read"), f"{DRAINS}/preview", US).json()
    assert preview["shortfalls"] == [refusal]
    assert {
        (row["deployment"], row["jurisdiction"], row["replicas_now"], row["replicas_after"])
        for row in preview["kept"]
    } == {
        ("chat", "us", 1, 0),
        ("chat", "eu", 0, 1),
        ("local", "us", 1, 0),
    }
    assert not Drain.objects.exists()
    accepted = post(client(world, "operate"), body=US | {"accept_risk": True})
    assert (accepted.status_code, accepted.json()["shortfalls"]) == (201, [refusal])


def test_a_key_learns_no_name_of_another_projects_deployments(world: FleetWorld) -> None:
    """A pool is shared by projects, names are not: what is short is told, whose it is not."""
    other = Project.objects.create(organization=world.organization, name="other")
    secret = Model.objects.create(project=other, name="tiny-llama")
    model_version(secret, "1")
    document = world.document("classified", residency=["us"])
    deployment_create(actor=world.actor_for(other), document=document)
    placements_solve(organization_id=world.organization.pk)
    api = client(world, "operate", "read")
    answers = [
        post(api, body=US),
        post(api, f"{DRAINS}/preview", US),
        post(api, body=US | {"accept_risk": True}),
    ]
    answers.append(api.get(answers[-1]["Location"]))
    for told in ("events", "audit"):
        assert b"classified" not in api.get(f"/api/v1/{told}").content
    for answer in answers:
        assert b"another project" in answer.content or b"null" in answer.content
        assert b"classified" not in answer.content
    assert b"classified" in client(world, "read", project=other).get(answers[-2]["Location"]).content


def test_only_operators_drain(world: FleetWorld) -> None:
    """Neither ordering nor lifting."""
    made = post(client(world, "operate"), body=US)
    for scope in ("inference", "read", "deploy"):
        api = client(world, scope)
        for path, body in ((DRAINS, US), (f"{made['Location']}/lift", None)):
            assert post(api, path, body).status_code == 403, scope


def test_another_organization_sees_and_lifts_nothing(world: FleetWorld) -> None:
    """What is not theirs is not there."""
    made = post(client(world, "operate"), body=US)
    stranger = client(fleet_world("elsewhere"), "operate")
    assert stranger.get(DRAINS).json()["items"] == []
    assert stranger.get(made["Location"]).status_code == 404
    assert post(stranger, f"{made['Location']}/lift").status_code == 404
    assert stranger.get(f"{DRAINS}/no-uuid").status_code == 404


def test_wrong_fields_are_named(world: FleetWorld) -> None:
    """With a pointer to each."""
    api = client(world, "operate")
    for pointer, value in (
        ("/kind", "planet"),
        ("/name", "mars"),
        ("/name", "a b"),
        ("/name", "us-east\x00"),
        ("/accept_risk", "yes"),
        ("/starts_at", "tomorrow"),
        ("/ends_at", "2001-01-01T00:00:00Z"),
        ("/force", True),
    ):
        answer = post(api, body=US | {pointer[1:]: value})
        assert (answer.status_code, pointers(answer)) == (400, {pointer})
