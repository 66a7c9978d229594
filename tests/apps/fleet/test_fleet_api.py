"""Clusters, pools and their prices over REST."""

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from apps.api.models import AuditEvent
from apps.fleet.models import PoolPrice
from apps.placements.models import PlacementClock
from tests.apps.conftest import Tenant, pointers, tenant_make

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("world")]

POOL = {
    "cluster": "c1",
    "name": "spot-l4",
    "instance_type": "g6.xlarge",
    "procurement": "spot",
    "capacity_instances": 4,
    "price_usd_per_h": "0.2931",
    "hazard_per_h": 0.05,
}


@pytest.fixture
def cluster(acme: Tenant) -> dict[str, object]:
    body = {"name": "c1", "region": "eu-1", "failure_domains": ["zone/eu-1a"]}
    response = acme.client.post("/api/v1/clusters", body, format="json")
    assert response.status_code == 201, response.content
    return dict(response.json())


def test_a_cluster_belongs_to_its_region_and_provider_too(cluster: dict[str, object]) -> None:
    """Nobody needs to say that a cluster fails with its region and its provider."""
    assert cluster["failure_domains"] == ["provider/aws", "region/eu-1", "zone/eu-1a"]
    assert (cluster["jurisdiction"], cluster["provider"], cluster["connected"]) == ("eu", "aws", False)


def test_an_unknown_region_is_a_wrong_field_that_names_the_known_ones(acme: Tenant) -> None:
    """The answer says where, what and what would be right."""
    response = acme.client.post("/api/v1/clusters", {"name": "c2", "region": "mars-1"}, format="json")
    assert response.status_code == 400
    assert response.json()["errors"] == [
        {"pointer": "/region", "detail": "is not known", "value": "mars-1", "remedy": "known are: eu-1"}
    ]


def test_prices_are_decimal_strings_outside_and_whole_micro_dollars_inside(
    acme: Tenant, cluster: dict[str, object]
) -> None:
    """Money never becomes a float, and a new price keeps the old one as history."""
    pool = acme.client.post("/api/v1/pools", POOL, format="json").json()
    assert pool["price_usd_per_h"] == "0.2931"
    changed = acme.client.patch(
        f"/api/v1/pools/{pool['id']}", {"price_usd_per_h": "0.31"}, format="json"
    ).json()
    assert (changed["price_usd_per_h"], changed["generation"]) == ("0.31", pool["generation"] + 1)
    prices = acme.client.get(f"/api/v1/pools/{pool['id']}/prices").json()["items"]
    assert [price["price_usd_per_h"] for price in prices] == ["0.31", "0.2931"]
    assert set(PoolPrice.objects.values_list("instance_micro_usd_per_h", flat=True)) == {293_100, 310_000}


@pytest.mark.parametrize("price", [0.29, "0.1234567", "-1", "1e3", "NaN", "", None, "٣"])
def test_what_is_no_amount_of_dollars_is_refused(
    acme: Tenant, cluster: dict[str, object], price: object
) -> None:
    """A float, a seventh decimal, a sign: each is answered at its field."""
    response = acme.client.post("/api/v1/pools", {**POOL, "price_usd_per_h": price}, format="json")
    assert response.status_code == 400
    assert pointers(response) == {"/price_usd_per_h"}


def test_a_price_that_no_machine_costs_is_a_mistake_of_unit(acme: Tenant, cluster: dict[str, object]) -> None:
    """Over a thousand dollars for a GPU and hour; so for a reservation, and for a hazard meant per day."""
    dear = acme.client.post("/api/v1/pools", {**POOL, "price_usd_per_h": "1000.01"}, format="json")
    assert (dear.status_code, pointers(dear)) == (400, {"/price_usd_per_h"})
    address = acme.client.post("/api/v1/pools", POOL, format="json")["Location"]
    for changes in ({"price_usd_per_h": "1000.01"}, {"hazard_per_h": 61}):
        response = acme.client.patch(address, changes, format="json")
        assert (response.status_code, pointers(response)) == (400, {f"/{next(iter(changes))}"})


def test_a_stale_etag_changes_nothing(acme: Tenant, cluster: dict[str, object]) -> None:
    """Who read an older state is told so, with the present ETag."""
    pool = acme.client.post("/api/v1/pools", POOL, format="json")
    address, etag = pool["Location"], pool["ETag"]
    assert (
        acme.client.patch(address, {"capacity_instances": 5}, format="json", HTTP_IF_MATCH=etag).status_code
        == 200
    )
    stale = acme.client.patch(address, {"capacity_instances": 9}, format="json", HTTP_IF_MATCH=etag)
    assert (stale.status_code, stale["ETag"]) == (412, '"2"')
    assert acme.client.get(address).json()["capacity_instances"] == 5


def test_a_patch_that_changes_nothing_raises_no_generation(acme: Tenant, cluster: dict[str, object]) -> None:
    """Placement is not woken for nothing."""
    address = acme.client.post("/api/v1/pools", POOL, format="json")["Location"]
    assert acme.client.patch(address, {"capacity_instances": 4}, format="json").json()["generation"] == 1


def test_a_second_pool_of_one_kind_is_told_what_it_shares(acme: Tenant, cluster: dict[str, object]) -> None:
    """Not the last column of a constraint alone."""
    acme.client.post("/api/v1/pools", POOL, format="json")
    twin = acme.client.post("/api/v1/pools", {**POOL, "name": "twin"}, format="json")
    assert twin.status_code == 409
    assert "the same cluster, instance type, procurement already exists" in twin.json()["detail"]


def test_a_cluster_with_pools_is_not_deleted(acme: Tenant, cluster: dict[str, object]) -> None:
    """The answer says what is in the way."""
    address = acme.client.post("/api/v1/pools", POOL, format="json")["Location"]
    assert acme.client.delete("/api/v1/clusters/c1").status_code == 409
    assert acme.client.delete(address).status_code == 204
    assert acme.client.delete("/api/v1/clusters/c1").status_code == 204


def test_only_reserved_pools_have_reservations(acme: Tenant, cluster: dict[str, object]) -> None:
    """A reservation of spot machines is a mistake, and it says so."""
    now = timezone.now().isoformat()
    spot = acme.client.post("/api/v1/pools", POOL, format="json").json()["id"]
    document = {
        "pool": spot,
        "instances": 1,
        "price_usd_per_h": "1.00",
        "starts_at": now,
        "ends_at": "2099-01-01T00:00:00Z",
    }
    response = acme.client.post("/api/v1/reservations", document, format="json")
    assert (response.status_code, pointers(response)) == (400, {"/pool"})
    reserved = {**POOL, "name": "reserved-l4", "procurement": "reserved"}
    document["pool"] = acme.client.post("/api/v1/pools", reserved, format="json").json()["id"]
    made = acme.client.post("/api/v1/reservations", document, format="json")
    assert made.status_code == 201, made.content
    assert acme.client.delete(made["Location"]).status_code == 204


def test_nothing_of_another_organization_can_be_seen_or_guessed(
    acme: Tenant, rival: Tenant, cluster: dict[str, object]
) -> None:
    """Another tenant's object and one that never was are answered alike: 404."""
    pool = acme.client.post("/api/v1/pools", POOL, format="json")["Location"]
    for address in ("/api/v1/clusters/c1", f"/api/v1/clusters/{cluster['id']}", pool):
        theirs = rival.client.get(address)
        assert theirs.status_code == 404
        assert rival.client.patch(address, {"schedulable": False}, format="json").status_code == 404
        assert rival.client.delete(address).status_code == 404
    assert rival.client.get("/api/v1/pools").json()["items"] == []
    response = rival.client.post("/api/v1/pools", POOL, format="json")
    assert (response.status_code, pointers(response)) == (400, {"/cluster"})


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("providers", {"name": "gcp", "kind": "gcp"}),
        ("failure-domains", {"kind": "zone", "name": "x"}),
        ("gpu-types", {"name": "H100", "vendor": "nvidia", "memory_gib": 80, "precisions": ["bf16"]}),
    ],
)
def test_shared_facts_are_written_by_administrators_alone(
    acme: Tenant, admin: APIClient, path: str, document: dict[str, object]
) -> None:
    """A tenant's key reads them; writing needs the installation's administrator."""
    assert acme.client.get(f"/api/v1/{path}").status_code == 200
    assert acme.client.post(f"/api/v1/{path}", document, format="json").status_code == 403
    assert admin.post(f"/api/v1/{path}", document, format="json").status_code == 201


def test_changes_are_audited_with_before_and_after(acme: Tenant, cluster: dict[str, object]) -> None:
    """The trail says who changed what from what to what."""
    address = acme.client.post("/api/v1/pools", POOL, format="json")["Location"]
    acme.client.patch(address, {"capacity_instances": 7}, format="json")
    event = AuditEvent.objects.order_by("-id").first()
    assert event is not None
    assert (event.action, event.subject_name, event.actor[:8]) == ("changed", "spot-l4", "api_key:")
    assert event.before is not None
    assert event.after is not None
    assert (event.before["capacity_instances"], event.after["capacity_instances"]) == (4, 7)
    listed = acme.client.get("/api/v1/audit?subject_type=gpupool&action=changed").json()["items"]
    assert [row["id"] for row in listed] == [event.pk]


def test_a_cluster_is_retired_once_by_who_may_operate(acme: Tenant, cluster: dict[str, object]) -> None:
    """The answer says since when; a stale ETag and a second time change nothing."""
    stale = acme.client.post("/api/v1/clusters/c1/retire", HTTP_IF_MATCH='"99"')
    assert stale.status_code == 412
    first = acme.client.post("/api/v1/clusters/c1/retire")
    assert (first.status_code, first.json()["schedulable"]) == (200, False), first.content
    assert first.json()["retired_at"] is not None
    assert acme.client.post("/api/v1/clusters/c1/retire").status_code == 409
    assert (
        tenant_make("reader", scopes=("read",)).client.post("/api/v1/clusters/c1/retire").status_code == 403
    )


def test_obtainability_is_a_share_that_can_change(acme: Tenant, cluster: dict[str, object]) -> None:
    """All of what is asked for is had unless somebody says less; nothing and more than all are refused."""
    made = acme.client.post("/api/v1/pools", POOL, format="json")
    assert made.json()["obtainability"] == 1.0
    changed = acme.client.patch(made["Location"], {"obtainability": 0.6}, format="json")
    assert (changed.json()["obtainability"], changed.json()["generation"]) == (0.6, 2)
    for wrong in (0, 1.5, "0.5"):
        response = acme.client.patch(made["Location"], {"obtainability": wrong}, format="json")
        assert (response.status_code, pointers(response)) == (400, {"/obtainability"})


def test_a_reservation_is_changed_and_placement_hears_of_it(acme: Tenant, cluster: dict[str, object]) -> None:
    """Enlarged, at another price, ended earlier; never ended before it starts; never another tenant's."""
    reserved = {**POOL, "name": "reserved-l4", "procurement": "reserved"}
    document = {
        "pool": acme.client.post("/api/v1/pools", reserved, format="json").json()["id"],
        "instances": 1,
        "price_usd_per_h": "1.00",
        "starts_at": "2026-01-01T00:00:00Z",
        "ends_at": "2099-01-01T00:00:00Z",
    }
    address = acme.client.post("/api/v1/reservations", document, format="json")["Location"]
    wanted = PlacementClock.objects.get().wanted
    changes = {"instances": 3, "price_usd_per_h": "0.80", "ends_at": "2098-01-01T00:00:00Z"}
    changed = acme.client.patch(address, changes, format="json")
    assert changed.status_code == 200, changed.content
    assert changes.items() <= changed.json().items()
    assert PlacementClock.objects.get().wanted == wanted + 1
    event = AuditEvent.objects.latest("id")
    assert event.before is not None and event.after is not None
    assert (event.before["instances"], event.after["instances"]) == (1, 3)
    assert acme.client.patch(address, changes, format="json").status_code == 200
    assert PlacementClock.objects.get().wanted == wanted + 1, "nothing differs, so nobody is woken"
    wrong = acme.client.patch(address, {"ends_at": "2025-01-01T00:00:00Z"}, format="json")
    assert (wrong.status_code, pointers(wrong)) == (400, {"/ends_at"})
    assert pointers(acme.client.patch(address, {"pool": document["pool"]}, format="json")) == {"/pool"}
    assert tenant_make("stranger").client.patch(address, changes, format="json").status_code == 404


def test_network_prices_are_facts_for_all(acme: Tenant, admin: APIClient, cluster: dict[str, object]) -> None:
    """Set by administrators, replaced by the next word, read by everyone; money is a decimal string."""
    region = {"name": "us-1", "provider": "aws", "jurisdiction": "us", "latitude": 39, "longitude": -77}
    assert admin.post("/api/v1/regions", region, format="json").status_code == 201
    document = {"origin": "eu-1", "target": "us-1", "price_usd_per_gib": "0.09"}
    assert acme.client.put("/api/v1/network-prices", document, format="json").status_code == 403
    wanted = PlacementClock.objects.get().wanted
    assert admin.put("/api/v1/network-prices", document, format="json").json() == document
    assert PlacementClock.objects.get().wanted == wanted + 1
    admin.put("/api/v1/network-prices", {**document, "price_usd_per_gib": "0.12"}, format="json")
    listed = acme.client.get("/api/v1/network-prices?origin=eu-1").json()["items"]
    assert listed == [{**document, "price_usd_per_gib": "0.12"}]
    wrong = admin.put("/api/v1/network-prices", {**document, "origin": "mars"}, format="json")
    assert (wrong.status_code, pointers(wrong)) == (400, {"/origin"})


def test_advice_on_reservations_says_what_it_is_missing(acme: Tenant, cluster: dict[str, object]) -> None:
    """Of a fleet in which nothing ran yet; an amount that is none and an unknown parameter are refused."""
    acme.client.post("/api/v1/pools", POOL, format="json")
    asked = acme.client.get("/api/v1/reservations/advice?price_usd_per_h=0.12&term_days=30")
    assert asked.status_code == 200, asked.content
    (row,) = asked.json()["items"]
    assert (row["region"], row["instance_type"], row["advised_instances"]) == ("eu-1", "g6.xlarge", None)
    assert row["spot_usd_per_h"] is not None
    assert row["on_demand_usd_per_h"] is None
    assert "0 hours of demand known" in row["reasons"][0]
    for wrong in ("price_usd_per_h=cheap", "term_days=0", "month=1"):
        assert acme.client.get(f"/api/v1/reservations/advice?{wrong}").status_code == 400
