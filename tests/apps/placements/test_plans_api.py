"""Plans over REST: reasons, certificate, and nobody else's deployments."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import api_key_create
from apps.api.actors import system_actor
from apps.deployments.services import deployment_create
from apps.placements.models import PlacementClock, PlacementPlan
from apps.placements.services import placements_solve
from tests.apps.conftest import bearer, tenant_make
from tests.support.fleet_world import FleetWorld, fleet_world

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> FleetWorld:
    """Two deployments, one of which must survive the loss of a region, and the plan for both."""
    made = fleet_world()
    deployment_create(actor=made.actor, document=made.document())
    placements_solve(organization_id=made.organization.pk)
    survivor = made.document("survivor", survivability="region", residency=["eu", "us"])
    deployment_create(actor=made.actor, document=survivor | {"autoscaling": {"max_replicas": 2}})
    placements_solve(organization_id=made.organization.pk)
    return made


def reader(project: Project, scope: str = "read") -> APIClient:
    actor = system_actor("tests", organization_id=project.organization_id, project_id=project.pk)
    return bearer(api_key_create(actor=actor, project_id=project.pk, name=f"to {scope}", scopes=[scope])[1])


def test_plans_are_listed_newest_first(world: FleetWorld) -> None:
    """With their generation, and for operators with what all projects spend."""
    items = reader(world.project, "operate").get("/api/v1/plans").json()["items"]
    assert [(row["plan_generation"], row["usd_per_h"]) for row in items] == [(2, "4.00"), (1, "1.00")]
    items = reader(world.project).get("/api/v1/plans").json()["items"]
    assert [(row["plan_generation"], row["usd_per_h"]) for row in items] == [(2, None), (1, None)]


def test_a_plan_says_why_and_what_it_survives(world: FleetWorld) -> None:
    """Every pool has its reason; every loss its verdict; promises are told from luck."""
    client = reader(world.project)
    plan = client.get("/api/v1/plans/latest").json()
    assert plan == client.get("/api/v1/plans/2").json()
    entries = {
        entry["name"]: {pool["cluster"]: pool for pool in entry["pools"]} for entry in plan["deployments"]
    }
    assert (
        entries["survivor"]["us-east"]["reasons"][0]
        == "1 at 1.000 USD/h each, the cheapest on_demand room left"
    )
    assert entries["survivor"]["ap-northeast"]["refusal"]["rule"] == "residency"
    assert entries["chat"]["eu-west"]["refusal"]["rule"] == "not_needed"
    certificate = plan["certificate"]
    assert (certificate["holds"], certificate["broken_promises"]) == (True, [])
    verdicts = {
        (row["deployment"], row["domain"]): (row["verdict"], row["promised"]) for row in certificate["losses"]
    }
    assert verdicts["survivor", "us-east4"] == ("survives", True)
    assert verdicts["chat", "us-east4"] == ("lost", False)


def test_plans_of_others_are_not_there(world: FleetWorld) -> None:
    """Another organization sees no plan; a sibling project sees the plan without these deployments."""
    stranger = tenant_make("rival").client
    assert stranger.get("/api/v1/plans").json()["items"] == []
    assert stranger.get("/api/v1/plans/2").status_code == 404
    sibling = reader(Project.objects.create(organization=world.organization, name="other"))
    plan = sibling.get("/api/v1/plans/2").json()
    assert (plan["deployments"], plan["certificate"]["losses"]) == ([], [])
    assert (plan["usd_per_h"], plan["usd_per_h_marginal"]) == ("0.00", "0.00")
    assert set(plan["cost"].values()) == {"0.00"}
    operator = reader(Project.objects.get(name="other"), "operate").get("/api/v1/plans/2").json()
    assert (operator["usd_per_h"], operator["cost"]["rent"]) == ("4.00", "4.00")


@pytest.mark.parametrize("generation", ["0", "99", "-1", "x", "9" * 40, "1.0"])
def test_a_plan_that_never_was_is_not_found(world: FleetWorld, generation: str) -> None:
    """Whatever the address says, it is 404 and never an error of ours."""
    assert reader(world.project).get(f"/api/v1/plans/{generation}").status_code == 404


def test_a_plan_is_read_page_by_page_and_by_name(world: FleetWorld) -> None:
    """By name; the certificate's losses are the page's; a name that is nobody's here is not found."""
    client = reader(world.project)
    first = client.get("/api/v1/plans/latest?limit=1").json()
    assert [entry["name"] for entry in first["deployments"]] == ["chat"]
    assert {loss["deployment"] for loss in first["certificate"]["losses"]} == {"chat"}
    last = client.get("/api/v1/plans/latest", {"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [entry["name"] for entry in last["deployments"]] == ["survivor"]
    assert last["next_cursor"] is None
    one = client.get("/api/v1/plans/latest?deployment=survivor").json()
    assert one["deployments"] == last["deployments"]
    assert client.get("/api/v1/plans/latest?deployment=nobody").status_code == 404
    assert client.get("/api/v1/plans/latest?cursor=x").status_code == 400
    sibling = reader(Project.objects.create(organization=world.organization, name="other"))
    assert sibling.get("/api/v1/plans/latest?deployment=chat").status_code == 404


def test_a_plan_says_what_it_costs_part_by_part(world: FleetWorld) -> None:
    """The parts sum to the total; each deployment's are its own."""
    plan = reader(world.project).get("/api/v1/plans/latest").json()
    for told in (plan, *plan["deployments"]):
        parts = {name: Decimal(value) for name, value in told["cost"].items()}
        assert sum(parts.values()) == 2 * parts["total"], told["cost"]
    rents = [Decimal(entry["cost"]["rent"]) for entry in plan["deployments"]]
    assert sum(rents) == Decimal(plan["cost"]["rent"]) == Decimal("4.00")


def test_a_plan_says_how_far_it_is_from_the_best(world: FleetWorld) -> None:
    """By its own bound, or, of the plan in force, by that of a full solve that came after it; else nothing."""
    client = reader(world.project, "operate")
    assert client.get("/api/v1/plans/latest").json()["bound"] is None
    PlacementClock.objects.update(lower_bound_micro_usd_per_h=3_200_000, full_solved_at=timezone.now())
    bound = client.get("/api/v1/plans/latest").json()["bound"]
    assert (bound["objective_usd_per_h"], bound["lower_bound_usd_per_h"]) == ("4.00", "3.20")
    assert bound["gap_percent"] == 25.0
    (in_force,) = PlacementPlan.objects.filter(plan_generation=2)
    PlacementClock.objects.update(full_solved_at=in_force.created_at - timedelta(seconds=1))
    assert client.get("/api/v1/plans/latest").json()["bound"] is None
    PlacementClock.objects.update(full_solved_at=timezone.now())
    told = reader(world.project).get("/api/v1/plans/latest").json()["bound"]
    assert (told["objective_usd_per_h"], told["lower_bound_usd_per_h"], told["gap_percent"]) == (
        None,
        None,
        25.0,
    )
    assert client.get("/api/v1/plans/1").json()["bound"] is None
    PlacementPlan.objects.filter(plan_generation=1).update(lower_bound_micro_usd_per_h=1_000_000)
    assert client.get("/api/v1/plans/1").json()["bound"]["gap_percent"] == 0.0


def test_a_certificate_sums_up_each_domain(world: FleetWorld) -> None:
    """What all of the project's deployments would still serve, and how many promises that breaks."""
    plan = reader(world.project).get("/api/v1/plans/latest").json()
    domains = {row["domain"]: row for row in plan["certificate"]["domains"]}
    assert (domains["us-east4"]["served_share"], domains["us-east4"]["touched"]) == (0.5, 2)
    assert domains["us-east4"]["broken"] == 0
    assert len(plan["certificate_sha256"]) == len(plan["certificate"]["sha256"]) == 64
