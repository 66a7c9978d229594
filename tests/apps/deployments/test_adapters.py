"""LoRA adapters in a deployment's document: pinned into its revision, sent to its clusters, named by its route."""

from typing import Any

import msgspec
import pytest
from rest_framework.test import APIClient

from apps.agents.contents import desired_contents, routing_entries
from apps.catalog.models import Adapter
from apps.deployments.models import Deployment, Revision
from apps.placements.models import Assignment
from tests.apps.conftest import pointers
from tests.apps.deployments.test_api import FULL, ROOT, client_of
from tests.support.fleet_world import FleetWorld, fleet_world
from workloadplane.protocol.desired import DesiredAssignment
from workloadplane.protocol.routing import Route

pytestmark = pytest.mark.django_db
WITH = {**FULL, "adapters": ["sql", "law"]}


@pytest.fixture
def world() -> FleetWorld:
    return fleet_world()


@pytest.fixture
def client(world: FleetWorld) -> APIClient:
    return client_of(world.project, "deploy")


def adapter(world: FleetWorld, name: str, *, digit: str = "a") -> Adapter:
    version = world.version
    return Adapter.objects.create(
        model_version=version,
        name=name,
        digest="sha256:" + digit * 64,
        source_uri=f"file:///a/{name}",
        rank=8,
    )


def names(deployment: str = "chat") -> list[list[str]]:
    found = Revision.objects.filter(deployment__name=deployment).order_by("number")
    return [[each["name"] for each in revision.adapters] for revision in found]


def test_adapters_are_pinned_into_the_revision(client: APIClient, world: FleetWorld) -> None:
    """The document comes back as sent; changing them is a new revision, changing policy is none, and a roll-back
    brings the earlier ones back; what the catalog forgets meanwhile still runs.
    """
    for name in ("sql", "law"):
        adapter(world, name)
    created = client.post(ROOT, WITH, format="json")
    assert created.status_code == 202, created.content
    assert created.json()["adapters"] == ["sql", "law"]
    assert client.get(f"{ROOT}/chat").json()["adapters"] == ["sql", "law"]
    assert client.get(ROOT).json()["items"][0]["adapters"] == ["sql", "law"]

    def change(body: Any) -> dict[str, Any]:
        response = client.patch(f"{ROOT}/chat", body, format="json")
        assert response.status_code in {200, 202}, response.content
        changed: dict[str, Any] = response.json()
        return changed

    assert change({"priority": 1})["revision"] == 1
    assert change({"adapters": ["sql"]})["revision"] == 2
    Adapter.objects.filter(name="sql").delete()
    assert change({"priority": 2})["revision"] == 2
    none = change({"adapters": []})
    assert none["revision"] == 3
    assert "adapters" not in none
    rolled_back = client.post(f"{ROOT}/chat/rollback", {"revision": 1}, format="json")
    assert rolled_back.status_code == 202, rolled_back.content
    assert rolled_back.json()["adapters"] == ["sql", "law"]
    assert names() == [["sql", "law"], ["sql"], [], ["sql", "law"]]


@pytest.mark.parametrize(
    ("wanted", "wrong"),
    [(["sql", "none"], {"/adapters/1"}), (["sql", "sql"], {"/adapters"}), (["No!"], {"/adapters/0"})],
)
def test_adapters_that_are_not_the_models_are_refused(
    client: APIClient, world: FleetWorld, wanted: list[str], wrong: set[str]
) -> None:
    """By place, with those that there are."""
    adapter(world, "sql")
    response = client.post(ROOT, {**FULL, "adapters": wanted}, format="json")
    assert response.status_code == 400
    assert pointers(response) == wrong


def test_clusters_and_gateways_hear_of_them(client: APIClient, world: FleetWorld) -> None:
    """An assignment says where its adapters are; the route names what clients may ask for."""
    adapter(world, "sql")
    client.post(ROOT, {**FULL, "adapters": ["sql"]}, format="json")
    deployment = Deployment.objects.get(name="chat")
    assert deployment.current_revision is not None
    pool = next(iter(world.pools.values()))
    row = Assignment(
        deployment=deployment,
        revision=deployment.current_revision,
        pool=pool,
        min_replicas=1,
        max_replicas=1,
        gpus_per_replica=1,
    )
    contents = desired_contents(pool.cluster, [pool], [row])
    (sent,) = (msgspec.json.decode(raw, type=DesiredAssignment) for raw in contents.entries.payloads.values())
    assert [(each.name, each.source_uri, each.rank) for each in sent.adapters] == [
        ("sql", "file:///a/sql", 8)
    ]
    entries = routing_entries([row], [], seats={}, nowhere={}, waiting=lambda _: "", withheld={})
    (route,) = (msgspec.json.decode(raw, type=Route) for raw in entries.payloads.values())
    assert route.adapters == ("sql",)
