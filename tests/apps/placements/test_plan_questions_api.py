"""Questions about plans over REST: what survives, what changed, what would be if; and dry runs, which tell the same."""

import sys
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import api_key_create
from apps.api.actors import system_actor
from apps.api.models import IdempotentAnswer
from apps.api.throttling import ApiKeyThrottle
from apps.catalog.models import Model, PerformanceProfile
from apps.catalog.services import profile_create
from apps.deployments.models import Deployment
from apps.deployments.services import deployment_create
from apps.fleet.models import GpuPool, PoolPrice
from apps.placements.models import Assignment, PlacementClock, PlacementPlan
from apps.placements.services import placements_solve
from tests.apps.conftest import bearer, pointers, tenant_make
from tests.support.fleet_world import FleetWorld, fleet_world, model_version

pytestmark = pytest.mark.django_db(transaction=True)

WHAT_IF = "/api/v1/plans/what-if"


@pytest.fixture
def world() -> FleetWorld:
    """A deployment that may be lost, one that must survive the loss of a region, and the plans that placed them."""
    made = fleet_world()
    deployment_create(actor=made.actor, document=made.document())
    placements_solve(organization_id=made.organization.pk)
    survivor = made.document("survivor", survivability="region", residency=["eu", "us"])
    deployment_create(actor=made.actor, document=survivor | {"autoscaling": {"max_replicas": 2}})
    placements_solve(organization_id=made.organization.pk)
    return made


def holder(project: Project, *scopes: str) -> APIClient:
    actor = system_actor("tests", organization_id=project.organization_id, project_id=project.pk)
    name = f"to {' and '.join(scopes)}"
    return bearer(api_key_create(actor=actor, project_id=project.pk, name=name, scopes=list(scopes))[1])


def sibling(world: FleetWorld) -> APIClient:
    """Another project of the same organization."""
    return holder(Project.objects.create(organization=world.organization, name="other"), "read", "deploy")


def ask(client: APIClient, **question: Any) -> Any:
    return client.post(WHAT_IF, question, format="json")


def changes(answer: Any) -> dict[str, Any]:
    """What changes, by deployment."""
    return {row["name"]: row for row in answer["diff"]["deployments"]}


def test_a_loss_tells_the_promised_from_the_lost(world: FleetWorld) -> None:
    """The worst served first; promises are kept though not everything survives."""
    client = holder(world.project, "read")
    answer = client.get("/api/v1/plans/latest/survive?lose=region:us-east4").json()
    assert (answer["lost"], answer["survives"], answer["keeps_promises"]) == (
        ["region:us-east4"],
        False,
        True,
    )
    assert [(row["name"], row["verdict"], row["promised"]) for row in answer["deployments"]] == [
        ("chat", "lost", False),
        ("survivor", "survives", True),
    ]
    assert answer["served_share"] == 0.5
    both = client.get("/api/v1/plans/latest/survive", {"lose": ["region:us-east4", "cluster:eu-west"]}).json()
    assert {row["verdict"] for row in both["deployments"]} == {"lost"}
    harmless = client.get("/api/v1/plans/latest/survive?lose=pool:ap-northeast/on-demand").json()
    assert (harmless["survives"], harmless["deployments_untouched"]) == (True, 2)


@pytest.mark.parametrize(
    "lose", ["", "us-east4", "planet:mars", "region:", "region:mars", "pool:us-east", "region:\x00"]
)
def test_what_cannot_be_lost_is_named(world: FleetWorld, lose: str) -> None:
    """A parameter's problem with what is known, never an error of ours."""
    answer = holder(world.project, "read").get("/api/v1/plans/latest/survive", {"lose": lose})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == "lose"


def test_of_several_losses_the_wrong_one_is_shown(world: FleetWorld) -> None:
    """As it was given; of too many all, as far as there is room."""
    client = holder(world.project, "read")
    answer = client.get("/api/v1/plans/latest/survive", {"lose": ["region:us-east4", "us-east4"]})
    assert answer.json()["errors"][0]["value"] == "us-east4"
    answer = client.get("/api/v1/plans/latest/survive", {"lose": ["zone:a"] * 21})
    assert answer.json()["errors"][0]["value"].startswith("zone:a, zone:a, ")


def test_without_a_loss_there_is_no_question(world: FleetWorld) -> None:
    """``lose`` is asked for."""
    answer = holder(world.project, "read").get("/api/v1/plans/latest/survive")
    assert answer.status_code == 400


def test_a_diff_says_what_a_plan_changed(world: FleetWorld) -> None:
    """Against the one before, against a named one, and the first against nothing."""
    client = holder(world.project, "read")
    newest = client.get("/api/v1/plans/latest/diff").json()
    assert newest == client.get("/api/v1/plans/2/diff?against=1").json()
    (row,) = newest["deployments"]
    assert row["name"] == "survivor"
    assert row["said"].startswith("new; ")
    assert (newest["before"]["usd_per_h"], newest["after"]["usd_per_h"]) == ("1.00", "4.00")
    assert newest["deployments_unchanged"] == 1
    first = client.get("/api/v1/plans/1/diff").json()
    assert [row["name"] for row in first["deployments"]] == ["chat"]
    assert first["before"]["plan_generation"] is None
    for query in ("against=2", "against=99", "against=x", "agianst=1"):
        assert client.get(f"/api/v1/plans/2/diff?{query}").status_code in (400, 404), query


def test_a_lost_region_is_planned_around(world: FleetWorld) -> None:
    """Moves, money and certificate of what would be; and nothing is written, whatever key is sent."""
    client = holder(world.project, "read")
    rows = [model.objects.count() for model in (PlacementPlan, Assignment, PoolPrice, IdempotentAnswer)]
    clock = PlacementClock.objects.values().get()
    answer = client.post(
        WHAT_IF, {"lose": ["region:us-east4"]}, format="json", headers={"idempotency-key": "k"}
    )
    assert answer.status_code == 200, answer.content
    found = answer.json()
    assert changes(found)["chat"]["moves"] == [
        {"from_pool": "us-east/on-demand", "to_pool": "eu-west/on-demand", "replicas": 1}
    ]
    assert found["diff"]["before"]["plan_generation"] == 2
    assert found["diff"]["after"]["plan_generation"] is None
    assert found["diff"]["before"]["usd_per_h"] == "4.00"
    assert {row["domain"] for row in found["certificate"]["losses"]}.isdisjoint({"us-east4"})
    assert [
        model.objects.count() for model in (PlacementPlan, Assignment, PoolPrice, IdempotentAnswer)
    ] == rows
    assert PlacementClock.objects.values().get() == clock


def test_every_kind_of_change_can_be_asked(world: FleetWorld) -> None:
    """Each by itself is answered, and all at once."""
    client = holder(world.project, "read")
    pool = {
        "cluster": "ap-northeast",
        "name": "more",
        "instance_type": "azure-1x",
        "procurement": "spot",
        "capacity_instances": 3,
        "price_usd_per_h": "0.10",
        "hazard_per_h": 0.2,
    }
    machine = GpuPool.objects.get(cluster__name="ap-northeast").instance_type
    type(machine).objects.create(
        provider=world.clusters["ap-northeast"].region.provider,
        name="azure-1x",
        gpu_type=machine.gpu_type,
        gpus=1,
    )
    questions: dict[str, Any] = {
        "prices": [{"pool": "us-east/on-demand", "price_usd_per_h": "9.00"}],
        "capacities": [{"pool": "us-east/on-demand", "capacity_instances": 9}],
        "add_pools": [pool],
        "deployments": [{"name": "chat", "min_replicas": 2, "max_replicas": 4, "survivability": "zone"}],
    }
    for part, rows in questions.items():
        assert ask(client, **{part: rows}).status_code == 200, part
    answer = ask(client, **questions)
    assert answer.status_code == 200, answer.content
    assert "chat" in changes(answer.json())


@pytest.mark.parametrize(
    ("question", "pointer"),
    [
        ({}, ""),
        ({"loose": []}, "/loose"),
        ({"lose": "region:us-east4"}, "/lose"),
        ({"lose": ["us-east4"]}, "/lose/0"),
        ({"lose": ["region:us-east4", "region:mars"]}, "/lose/1"),
        ({"prices": [{"pool": "us-east/on-demand", "price_usd_per_h": 9}]}, "/prices/0/price_usd_per_h"),
        ({"prices": [{"pool": "us-east/spot", "price_usd_per_h": "9.00"}]}, "/prices/0/pool"),
        ({"capacities": [{"pool": "us-east/on-demand", "capacity_instances": -1}]}, "/capacities/0/capacity_instances"),
        ({"demand": [{"factor": -1}]}, "/demand/0/factor"),
        ({"demand": [{"factor": float("1e9")}]}, "/demand/0/factor"),
        ({"demand": [{"deployment": "nobody", "factor": 2}]}, "/demand/0/deployment"),
        ({"deployments": [{"name": "nobody", "min_replicas": 1}]}, "/deployments/0/name"),
        ({"deployments": [{"name": "chat", "min_replicas": 9, "max_replicas": 1}]}, "/deployments/0"),
        ({"prices": [{"pool": "us-east/on-demand", "price_usd_per_h": "999999999"}]}, "/prices/0/pool"),
        ({"add_pools": [{"cluster": "eu-west", "name": "x", "instance_type": "h100-1x", "procurement": "spot",
                         "capacity_instances": 1, "price_usd_per_h": "999999999"}]}, "/add_pools/0"),
        ({"add_pools": [{"cluster": "eu-west", "name": "x", "instance_type": "h100-1x", "procurement": "spot",
                         "capacity_instances": 1, "price_usd_per_h": "1.00", "hazard_per_h": 61}]},
         "/add_pools/0/hazard_per_h"),
        ({"lose": ["region:us-east4"] * 21}, "/lose"),
        ({"demand": [{"factor": 1}] * 21}, ""),
        ({"add_pools": [{"cluster": "mars", "name": "x", "instance_type": "h100-1x", "procurement": "spot",
                         "capacity_instances": 1, "price_usd_per_h": "1.00"}]}, "/add_pools/0/cluster"),
        ({"add_pools": [{"cluster": "eu-west", "name": "x", "instance_type": "mars-1x", "procurement": "spot",
                         "capacity_instances": 1, "price_usd_per_h": "1.00"}]}, "/add_pools/0/instance_type"),
        ({"add_pools": [{"cluster": "eu-west", "name": "on-demand", "instance_type": "h100-1x", "procurement": "spot",
                         "capacity_instances": 1, "price_usd_per_h": "1.00"}]}, "/add_pools/0/name"),
    ],
)  # fmt: skip
def test_a_wrong_question_says_where(world: FleetWorld, question: dict[str, Any], pointer: str) -> None:
    """With a pointer at the field; the same for what was never there and for what is another's."""
    answer = ask(holder(world.project, "read"), **question)
    assert answer.status_code == 400, answer.content
    assert pointer in pointers(answer)


def test_others_are_not_seen_in_the_sums_either(world: FleetWorld) -> None:
    """A sibling project is told nothing of these deployments, nor of what they cost; a stranger knows no fleet."""
    client = sibling(world)
    answer = ask(client, lose=["region:us-east4"]).json()
    assert (answer["diff"]["deployments"], answer["certificate"]["losses"]) == ([], [])
    assert answer["diff"]["sums_of"] == "project"
    assert {side["usd_per_h"] for side in (answer["diff"]["before"], answer["diff"]["after"])} == {"0.00"}
    assert "chat" not in str(answer)
    assert pointers(ask(client, deployments=[{"name": "chat", "min_replicas": 1}])) == {"/deployments/0/name"}
    survival = client.get("/api/v1/plans/latest/survive?lose=region:us-east4").json()
    assert (survival["deployments"], survival["survives"]) == ([], True)
    assert client.get("/api/v1/plans/latest/diff").json()["deployments"] == []
    stranger = tenant_make("rival").client
    assert pointers(ask(stranger, lose=["region:us-east4"])) == {"/lose/0"}
    assert stranger.get("/api/v1/plans/2/survive?lose=region:us-east4").status_code == 404
    assert stranger.get("/api/v1/plans/2/diff").status_code == 404


def test_who_operates_the_organization_sees_what_all_projects_spend(world: FleetWorld) -> None:
    """In questions and diffs, and from the key of any project; a reader's sums are the own project's."""
    other = Project.objects.create(organization=world.organization, name="other")
    deployment_create(actor=world.actor, document=world.document("theirs"))
    Deployment.objects.filter(name="theirs").update(project=other)
    placements_solve(organization_id=world.organization.pk)
    told = {}
    for name, client in (
        ("reader", holder(world.project, "read")),
        ("sibling", holder(other, "read", "deploy")),
        ("operator", holder(other, "operate")),
    ):
        diff = client.get("/api/v1/plans/latest/diff").json()
        asked = ask(client, lose=["pool:ap-northeast/on-demand"]).json()["diff"]
        assert diff["sums_of"] == asked["sums_of"] == ("organization" if name == "operator" else "project")
        assert asked["before"]["usd_per_h"] == diff["after"]["usd_per_h"]
        told[name] = [diff[side]["usd_per_h"] for side in ("before", "after")]
    assert told == {"reader": ["4.00", "4.00"], "sibling": ["0.00", "1.00"], "operator": ["4.00", "5.00"]}


def test_a_reader_multiplies_the_own_demand_alone(world: FleetWorld) -> None:
    """A factor without a name is that of whose sums one sees: where another project's demand grew, pools would too."""
    other = Project.objects.create(organization=world.organization, name="other")
    body = {"demand": [{"requests_per_s": 2.0, "output_tokens_per_s": 200.0}]}
    assert (
        holder(world.project, "read", "deploy")
        .patch("/api/v1/deployments/chat", body, format="json")
        .status_code
        == 202
    )
    placements_solve(organization_id=world.organization.pk)
    refused = ask(holder(other, "read"), demand=[{"factor": 2}])
    assert pointers(refused) == {"/demand/0/factor"}
    assert ask(holder(other, "operate"), demand=[{"factor": 2}]).status_code == 200


def test_a_key_for_inference_asks_nothing(world: FleetWorld) -> None:
    """Reading is a right."""
    client = holder(world.project, "inference")
    assert ask(client, lose=["region:us-east4"]).status_code == 403
    for path in ("survive?lose=region:us-east4", "diff"):
        assert client.get(f"/api/v1/plans/latest/{path}").status_code == 403


def test_an_answer_says_how_it_was_solved_and_how_good_it_is(
    world: FleetWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few deployments are searched as a full solve would, with a bound; many are placed one after the other."""
    client = holder(world.project, "read")
    told = ask(client, lose=["region:us-east4"]).json()
    assert told["solved_by"] == "search"
    assert 0 <= told["gap_percent"] < 1
    monkeypatch.setattr(
        sys.modules["apps.placements.services.placement_what_if"], "SEARCHED_DEPLOYMENTS_MOST", 0
    )
    told = ask(client, lose=["region:us-east4"]).json()
    assert (told["solved_by"], told["gap_percent"]) == ("greedy", None)


def test_questions_have_a_smaller_budget(world: FleetWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """So have dry runs, of the same budget; reading goes on."""
    monkeypatch.setattr(ApiKeyThrottle, "THROTTLE_RATES", {"api_key": "100/minute", "solve": "2/minute"})
    monkeypatch.setattr(ApiKeyThrottle, "timer", lambda _: 30.0)
    client = holder(world.project, "read", "deploy")
    assert ask(client, lose=["region:us-east4"]).status_code == 200
    dry_run = "/api/v1/deployments?dry_run=true"
    assert client.post(dry_run, world.document("new"), format="json").status_code == 200
    assert ask(client, lose=["region:us-east4"]).status_code == 429
    assert client.post(dry_run, world.document("new"), format="json").status_code == 429
    assert client.get("/api/v1/plans/latest").status_code == 200


def test_a_dry_run_tells_the_diff_that_the_write_then_makes(world: FleetWorld) -> None:
    """Moves, promises and money of a new document and of a change, as the stored plans' diff tells them afterwards."""
    client = holder(world.project, "read", "deploy")
    document = world.document("third", survivability="provider")
    document["autoscaling"] = {"min_replicas": 1, "max_replicas": 3}
    for path, send in (("deployments", client.post), ("deployments/third", client.patch)):
        body = document if send == client.post else {"autoscaling": {"min_replicas": 2, "max_replicas": 4}}
        told = send(f"/api/v1/{path}?dry_run=true", body, format="json").json()["diff"]
        assert [row["name"] for row in told["deployments"]] == ["third"], path
        assert send(f"/api/v1/{path}", body, format="json").status_code == 202
        placements_solve(organization_id=world.organization.pk)
        made = client.get("/api/v1/plans/latest/diff").json()
        assert made["deployments"][0]["moves"] == told["deployments"][0]["moves"]
        assert made["after"]["usd_per_h"] == told["after"]["usd_per_h"]
    assert Deployment.objects.filter(name="third").count() == 1


def test_a_dry_run_plans_for_the_demand_that_the_document_states(world: FleetWorld) -> None:
    """Of a new deployment whose model nobody runs yet, and of a change: as the write is then planned."""
    client = holder(world.project, "read", "deploy")
    version = model_version(Model.objects.create(project=world.project, name="fresh"), "1")
    profile_create(
        actor=world.actor,
        model_version=version,
        instance_type=world.instance_type,
        requests_per_s=4.0,
        tokens_per_s=400.0,
        concurrency=8,
    )
    document = world.document("new", model="fresh", autoscaling={"max_replicas": 4})
    for requests_per_s, replicas in ((6.0, 2), (10.0, 3)):
        demand = {
            "demand": [{"origin": "eu-west-1", "requests_per_s": requests_per_s, "output_tokens_per_s": 60.0}]
        }
        send, path, body = (
            (client.post, "deployments", document | demand)
            if replicas == 2
            else (client.patch, "deployments/new", demand)
        )
        told = send(f"/api/v1/{path}?dry_run=true", body, format="json").json()
        assert sum(row["planned_replicas"] for row in told["plan"]["allocations"]) == replicas
        assert send(f"/api/v1/{path}", body, format="json").status_code == 202
        placements_solve(organization_id=world.organization.pk)
        (entry,) = client.get("/api/v1/plans/latest?deployment=new").json()["deployments"]
        assert sum(pool.get("planned_replicas", 0) for pool in entry["pools"]) == replicas
        assert told["plan"]["usd_per_h"] == entry["usd_per_h"]
        assert [row["requests_per_s"] for row in entry["demand"]] == [requests_per_s]
    PerformanceProfile.objects.update(requests_per_s=1e12)
    refused = client.patch("/api/v1/deployments/new?dry_run=true", {"priority": 1}, format="json")
    assert (refused.status_code, "requests_per_s is 1000000000000.0" in refused.json()["detail"]) == (
        422,
        True,
    )


def test_a_question_costs_as_many_queries_however_many_deployments_there_are(world: FleetWorld) -> None:
    """Loading is a snapshot; nothing asks once for each deployment."""
    client = holder(world.project, "read")
    ask(client, lose=["region:us-east4"])
    counts = []
    for number in range(2):
        with CaptureQueriesContext(connection) as queries:
            assert ask(client, lose=["region:us-east4"]).status_code == 200
        counts.append(len(queries))
        for index in range(3):
            deployment_create(actor=world.actor, document=world.document(f"more-{number}-{index}"))
        placements_solve(organization_id=world.organization.pk)
    assert counts[0] == counts[1]


def test_who_lacks_something_is_told_the_smallest_change(world: FleetWorld) -> None:
    """Where one deployment is asked for: instances by pool, in words and in numbers; nobody else is told any."""
    client = holder(world.project, "read")
    large = world.document("large", residency=["jp"])
    large["autoscaling"] = {"min_replicas": 6, "max_replicas": 6}
    deployment_create(actor=world.actor, document=large)
    placements_solve(organization_id=world.organization.pk)
    (entry,) = client.get("/api/v1/plans/latest?deployment=large").json()["deployments"]
    change = entry["smallest_change"]
    assert [(row["pool"], row["instances"]) for row in change["growths"]] == [("ap-northeast/on-demand", 2)]
    assert change["usd_per_h"] == "6.00"
    assert "2" in change["said"]
    (entry,) = client.get("/api/v1/plans/latest?deployment=chat").json()["deployments"]
    assert entry["smallest_change"] is None
    page = client.get("/api/v1/plans/latest").json()["deployments"]
    assert {row["smallest_change"] for row in page} == {None}


def test_a_dry_run_tells_what_else_would_change(world: FleetWorld) -> None:
    """Whoever waits for the same plan is told by name, and whose nothing changes is counted."""
    deployment_create(actor=world.actor, document=world.document("waiting"))
    client = holder(world.project, "read", "deploy")
    told = client.post("/api/v1/deployments?dry_run=true", world.document("new"), format="json").json()
    assert {row["name"] for row in told["diff"]["deployments"]} == {"new", "waiting"}
    assert told["diff"]["deployments_unchanged"] == 2
    assert told["diff"]["replicas_started"] == 2
