"""The console's pages of drains: a look before, the order, progress, and the end at any point."""

import pytest
from django.test import Client
from django.utils import timezone

from apps.agents.models import Node
from apps.deployments.models import Deployment
from apps.drains.models import Drain
from apps.fleet.models import Cluster, GpuPool
from tests.console.test_pages import logged_in
from tests.console.world import World

pytestmark = pytest.mark.django_db

NEW = "/drains/new?kind=cluster&name=eu-west"


def drain_of(world: World, **fields: object) -> Drain:
    """A row as if it had been ordered."""
    values = {"kind": "cluster", "name": "eu-west", "state": "moving", "created_by": "user:admin"}
    return Drain.objects.create(
        organization=world.organization, moving_since=timezone.now(), replicas_at_start=4, **(values | fields)
    )


def test_a_cluster_is_drained_after_a_look_at_what_would_be_left(client: Client, world: World) -> None:
    """Its page leads there; the form orders it; the list shows it with its progress; one button ends it."""
    client = logged_in(client, world.admin)
    assert NEW.replace("&", "&amp;") in client.get("/clusters/eu-west").content.decode()
    assert (
        "/drains/new?kind=pool&amp;name=eu-west/h100-spot"
        in client.get("/clusters/eu-west/pools/h100-spot").content.decode()
    )
    page = client.get(NEW).content.decode()
    assert "What would be left" in page
    ordered = client.post(NEW, {"reason": "new <racks>", "accept_risk": "on"})
    assert (ordered.status_code, ordered["Location"]) == (302, "/drains")
    drain = Drain.objects.get()
    assert (drain.kind, drain.name, drain.created_by) == ("cluster", "eu-west", "user:admin")
    rows = client.get("/drains?part=rows").content.decode()
    assert "new &lt;racks&gt;" in rows
    assert "cluster eu-west" in rows
    client.post(f"/drains/{drain.pk}/lift")
    drain.refresh_from_db()
    assert drain.ended_at is not None
    assert "is open again" in client.get("/drains").content.decode()
    late = client.post(f"/drains/{drain.pk}/lift", follow=True)
    assert "nothing follows this state" in late.content.decode()


def test_a_wrong_window_is_said_at_its_field_and_an_unknown_place_is_not_there(
    client: Client, world: World
) -> None:
    """What was filled in stays."""
    client = logged_in(client, world.admin)
    page = client.post(NEW, {"ends_at": "2001-01-01 10:00", "reason": "stays", "accept_risk": "on"})
    assert page.status_code == 400
    html = page.content.decode()
    assert "leaves no time" in html
    assert 'value="stays"' in html
    assert client.post(NEW, {"ends_at": "soon"}).status_code == 422
    for query in ("?kind=cluster&name=mars", "?kind=planet&name=mars", ""):
        assert client.get(f"/drains/new{query}").status_code in (400, 404), query
    assert not Drain.objects.exists()


def test_a_viewer_sees_drains_and_orders_none_and_strangers_see_none(client: Client, world: World) -> None:
    """Rights and scope as in the API."""
    drain = drain_of(world)
    viewer = logged_in(client, world.viewer)
    page = viewer.get("/drains").content.decode()
    assert "cluster eu-west" in page
    assert "/lift" not in page
    assert viewer.get(NEW).status_code == 403
    assert viewer.post(f"/drains/{drain.pk}/lift").status_code == 403
    stranger = logged_in(Client(), world.stranger)
    assert "eu-west" not in stranger.get("/drains").content.decode()
    assert stranger.post(f"/drains/{drain.pk}/lift").status_code == 404


def test_a_refusal_is_shown_before_it_is_asked_for(client: Client, world: World) -> None:
    """And again when somebody asks without accepting it."""
    Deployment.objects.filter(pk=world.chat.pk).update(residency=["eu"])
    client = logged_in(client, world.admin)
    region = "/drains/new?kind=region&name=eu-west-1"
    page = client.get(region).content.decode()
    assert "It would be refused" in page
    assert "with nothing in jurisdiction eu" in page
    refused = client.post(region, {})
    assert refused.status_code == 422
    assert "would leave chat with nothing in jurisdiction eu" in refused.content.decode()
    assert not Drain.objects.exists()


def test_a_node_is_drained_from_its_clusters_page(client: Client, world: World) -> None:
    """Each has its button, but one that takes nothing new already. What a notice ordered has no button that ends it."""
    cluster = Cluster.objects.get(name="eu-west", organization=world.organization)
    pool = GpuPool.objects.get(cluster=cluster, name="h100-spot")
    Node.objects.create(cluster=cluster, pool=pool, name="node-1", gpus=8, replica_ids=["x", "y"])
    Node.objects.create(cluster=cluster, pool=pool, name="node-2", gpus=8, cordoned=True)
    client = logged_in(client, world.admin)
    page = client.get("/clusters/eu-west").content.decode()
    assert "/drains/new?kind=node&amp;name=eu-west/node-1" in page
    assert "name=eu-west/node-2" not in page
    assert "takes nothing new" in page
    assert client.get("/drains/new?kind=node&name=eu-west/node-1").status_code == 200
    drain_of(world, kind="node", name="eu-west/node-1", deadline_at=timezone.now(), reason="terminate")
    rows = client.get("/drains?part=rows").content.decode()
    assert "taken back" in rows
    assert "/lift" not in rows
