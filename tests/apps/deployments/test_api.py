"""Deployments over REST: what is accepted, what is refused and with which words."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.accounts.services import api_key_create
from apps.api.actors import system_actor
from apps.api.models import AuditEvent
from apps.deployments.models import Deployment
from apps.telemetry.models import Event
from tests.apps.conftest import bearer, pointers, tenant_make
from tests.support.fleet_world import FleetWorld, engine_image, fleet_world, model_version

pytestmark = pytest.mark.django_db
ROOT = "/api/v1/deployments"


@pytest.fixture
def world() -> FleetWorld:
    return fleet_world()


def client_of(project: Project, *scopes: str) -> APIClient:
    actor = system_actor("tests", organization_id=project.organization_id, project_id=project.pk)
    _, key = api_key_create(actor=actor, project_id=project.pk, name="-".join(scopes), scopes=scopes)
    return bearer(key)


@pytest.fixture
def client(world: FleetWorld) -> APIClient:
    return client_of(world.project, "deploy")


FULL = {
    "name": "chat",
    "model": "tiny-llama@1",
    "engine": "simulator",
    "autoscaling": {
        "min_replicas": 1,
        "max_replicas": 4,
        "autoscaling_window_s": 60.0,
        "scale_down_delay_s": 300.0,
        "concurrency_target": 8.0,
        "policy": "kpa",
    },
    "posture": "active_active",
    "survivability": "none",
    "residency": ["eu"],
    "residency_ingress": "refuse",
    "priority": 3,
    "resume": False,
    "slo": {"ttft_s_p95": 1.0, "inter_token_latency_s_p95": 0.1},
    "providers_allowed": ["aws", "azure"],
    "providers_denied": ["gcp"],
    "demand": [{"origin": "eu-west-1", "requests_per_s": 4.0, "output_tokens_per_s": 800.0}],
}


def test_creating_answers_with_the_object(client: APIClient) -> None:
    """202, where it is, its ETag, the document as it was sent, and what became of it so far."""
    response = client.post(ROOT, FULL, format="json")
    assert response.status_code == 202, response.content
    assert response["Location"] == f"{ROOT}/chat"
    assert response["ETag"] == '"1"'
    body = response.json()
    assert {name: body[name] for name in FULL} == FULL
    assert (body["generation"], body["revision"], body["deleting"]) == (1, 1, False)
    assert body["replicas"] == {"desired": 0, "ready": 0, "by_cluster": []}
    said = {c["type"]: (c["status"], c["reason"]) for c in body["conditions"]}
    assert said["Accepted"] == (True, "Valid")
    assert said["Progressing"] == (True, "Placing")
    assert client.get(response["Location"]).json() == body
    assert AuditEvent.objects.get(action="created", subject_name="chat").after == FULL
    assert Event.objects.filter(deployment_id=body["id"], reason="Accepted").exists()


def test_what_is_left_out_gets_its_default(client: APIClient) -> None:
    """Three fields are enough; a minimum above 1 raises the default maximum with it."""
    document = {"name": "a", "model": "tiny-llama", "engine": "simulator", "autoscaling": {"min_replicas": 3}}
    body = client.post(ROOT, document, format="json").json()
    assert body["model"] == "tiny-llama@1"
    assert (body["autoscaling"]["min_replicas"], body["autoscaling"]["max_replicas"]) == (3, 3)
    assert "slo" not in body


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"nmae": "x"}, {"/nmae"}),
        ({"name": "No!"}, {"/name"}),
        ({"name": "chat\n"}, {"/name"}),
        ({"autoscaling": {"min_replicas": "1"}}, {"/autoscaling/min_replicas"}),
        ({"autoscaling": {"min_replicas": True}}, {"/autoscaling/min_replicas"}),
        ({"autoscaling": {"min_replicas": 1.0}}, {"/autoscaling/min_replicas"}),
        ({"autoscaling": {"min_replicas": 5, "max_replicas": 4}}, {"/autoscaling/min_replicas"}),
        ({"autoscaling": {"max_replicas": 0}}, {"/autoscaling/max_replicas"}),
        ({"autoscaling": {"windows": 3}}, {"/autoscaling/windows"}),
        ({"autoscaling": None}, {"/autoscaling"}),
        ({"posture": "passive"}, {"/posture"}),
        ({"residency": "eu"}, {"/residency"}),
        ({"residency": ["eu", "mars"]}, {"/residency/1"}),
        ({"residency": ["eu", "eu"]}, {"/residency"}),
        ({"engine": "nim"}, {"/engine"}),
        ({"model": "tiny-llama@9"}, {"/model"}),
        ({"model": "unknown", "residency": ["mars"]}, {"/model", "/residency/0"}),
        ({"slo": {"ttft_s_p95": -1}}, {"/slo/ttft_s_p95"}),
        ({"providers_allowed": ["aws"], "providers_denied": ["aws"]}, {"/providers_denied"}),
        ({"providers_denied": ["mars"]}, {"/providers_denied/0"}),
        ({"demand": [{}]}, {"/demand/0"}),
        ({"demand": [{"requests_per_s": -1}]}, {"/demand/0/requests_per_s"}),
        ({"demand": [{"requests_per_s": 1, "per_minute": True}]}, {"/demand/0/per_minute"}),
        ({"demand": [{"origin": "mars", "requests_per_s": 1}]}, {"/demand/0/origin"}),
        ({"demand": [{"origin": "us-east4", "requests_per_s": 1}, {"requests_per_s": 1}]}, {"/demand"}),
        (
            {"demand": [{"requests_per_s": 0.01, "output_tokens_per_s": 60_000}]},
            {"/demand/0/output_tokens_per_s"},
        ),
        ({"priority": 101}, {"/priority"}),
    ],
)
def test_every_wrong_field_is_pointed_at(client: APIClient, changes: dict[str, Any], wrong: set[str]) -> None:
    """The answer names each wrong field, says what is wrong and what to do; nothing is stored."""
    response = client.post(ROOT, FULL | changes, format="json")
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert pointers(response) == wrong
    assert all(error["remedy"] for error in response.json()["errors"])
    assert not Deployment.objects.exists()


def test_an_unknown_choice_is_answered_with_the_known_ones(client: APIClient) -> None:
    """A word that is none of a list's gets the list."""
    answer = client.post(ROOT, {**FULL, "posture": "lying"}, format="json")
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["value"]) == ("/posture", "lying")
    assert error["detail"] == "Is not one of: active_active, active_passive."


def test_an_unknown_jurisdiction_is_answered_with_the_known_ones(client: APIClient) -> None:
    """A typo in residency must never look like a rule."""
    error = client.post(ROOT, FULL | {"residency": ["ue"]}, format="json").json()["errors"][0]
    assert "eu, jp, us" in error["remedy"]


def test_a_taken_name_is_pointed_at(client: APIClient) -> None:
    """409 with a pointer to the name, also in a dry run."""
    client.post(ROOT, FULL, format="json")
    for path in (ROOT, f"{ROOT}?dry_run=true"):
        response = client.post(path, FULL, format="json")
        assert (response.status_code, pointers(response)) == (409, {"/name"})


def test_what_cannot_be_placed_is_accepted(client: APIClient) -> None:
    """Survivability beyond the residency is a wish that may come true later, not a wrong field."""
    response = client.post(ROOT, FULL | {"survivability": "region"}, format="json")
    assert response.status_code == 202


def test_another_tenants_deployment_does_not_exist(world: FleetWorld, client: APIClient) -> None:
    """404 for every address and method, as for a name that nobody has."""
    client.post(ROOT, FULL, format="json")
    stranger = tenant_make("rival").client
    for method, path in [
        ("get", "chat"), ("put", "chat"), ("patch", "chat"), ("delete", "chat"), ("get", "chat/status"),
        ("get", "chat/revisions"), ("post", "chat/rollback"), ("post", "chat/redeploy"),
    ]:  # fmt: skip
        body = {"revision": 1} if path.endswith("rollback") else FULL if method == "put" else {}
        response = getattr(stranger, method)(f"{ROOT}/{path}", body, format="json")
        assert response.status_code == 404, (method, path, response.content)
    assert stranger.get(ROOT).json()["items"] == []
    sibling = client_of(Project.objects.create(organization=world.organization, name="other"), "deploy")
    assert sibling.get(f"{ROOT}/chat").status_code == 404


def test_reading_is_not_writing(world: FleetWorld, client: APIClient) -> None:
    """A key with scope read sees and does nothing else."""
    client.post(ROOT, FULL, format="json")
    reader = client_of(world.project, "read")
    assert reader.get(f"{ROOT}/chat").status_code == 200
    assert reader.post(ROOT, FULL, format="json").status_code == 403
    assert reader.delete(f"{ROOT}/chat").status_code == 403


def test_policy_changes_leave_the_revision_alone(client: APIClient) -> None:
    """PATCH merges, raises the generation, and rolls nothing out."""
    client.post(ROOT, FULL, format="json")
    response = client.patch(f"{ROOT}/chat", {"autoscaling": {"max_replicas": 9}, "slo": None}, format="json")
    body = response.json()
    assert (response.status_code, response["ETag"]) == (202, '"2"')
    assert (body["generation"], body["revision"]) == (2, 1)
    assert (body["autoscaling"]["max_replicas"], body["autoscaling"]["min_replicas"]) == (9, 1)
    assert "slo" not in body
    audit = AuditEvent.objects.get(action="changed")
    most = [side["autoscaling"]["max_replicas"] for side in (audit.before, audit.after) if side is not None]
    assert most == [4, 9]


def test_a_patch_is_judged_with_what_it_meets(client: APIClient) -> None:
    """A minimum above the stored maximum is refused, though alone it looks well."""
    client.post(ROOT, FULL, format="json")
    response = client.patch(f"{ROOT}/chat", {"autoscaling": {"min_replicas": 5}}, format="json")
    assert (response.status_code, pointers(response)) == (400, {"/autoscaling/min_replicas"})


def test_a_change_that_changes_nothing_is_none(client: APIClient) -> None:
    """Applying the same document again keeps the generation, whatever was left to defaults."""
    client.post(ROOT, FULL, format="json")
    assert client.put(f"{ROOT}/chat", FULL, format="json").json()["generation"] == 1
    assert client.put(f"{ROOT}/chat", FULL | {"model": "tiny-llama"}, format="json").json()["generation"] == 1


def test_a_newer_version_or_image_waits_until_it_is_asked_for(world: FleetWorld, client: APIClient) -> None:
    """Policy changes never roll out a newer build by the way; naming the version or redeploying does."""
    client.post(ROOT, FULL, format="json")
    model_version(world.model, "2")
    engine_image("simulator", "2")
    unpinned = FULL | {"model": "tiny-llama", "priority": 4}
    assert client.put(f"{ROOT}/chat", unpinned, format="json").json()["revision"] == 1
    body = client.put(f"{ROOT}/chat", FULL | {"model": "tiny-llama@2"}, format="json").json()
    assert (body["revision"], body["model"]) == (2, "tiny-llama@2")
    assert client.post(f"{ROOT}/chat/redeploy").json()["revision"] == 3
    assert client.post(f"{ROOT}/chat/redeploy").status_code == 409
    items = client.get(f"{ROOT}/chat/revisions").json()["items"]
    assert [(row["revision"], row["engine_version"], row["current"]) for row in items] == [
        (3, "2", True),
        (2, "1", False),
        (1, "1", False),
    ]


def test_rolling_back_is_a_new_revision_of_the_old_build(world: FleetWorld, client: APIClient) -> None:
    """What an earlier revision ran runs again; the policy stays; history only grows."""
    client.post(ROOT, FULL, format="json")
    model_version(world.model, "2")
    client.put(f"{ROOT}/chat", FULL | {"model": "tiny-llama@2", "priority": 9}, format="json")
    body = client.post(f"{ROOT}/chat/rollback", {"revision": 1}, format="json").json()
    assert (body["revision"], body["model"], body["priority"], body["generation"]) == (
        3,
        "tiny-llama@1",
        9,
        3,
    )
    newest = client.get(f"{ROOT}/chat/revisions").json()["items"][0]
    assert newest["rolled_back_from"] == 1
    unknown = client.post(f"{ROOT}/chat/rollback", {"revision": 7}, format="json")
    assert (unknown.status_code, pointers(unknown)) == (400, {"/revision"})
    assert client.post(f"{ROOT}/chat/rollback", {"revision": 3}, format="json").status_code == 409


def test_a_stale_etag_changes_nothing(client: APIClient) -> None:
    """Whoever changes what they did not see last is told the present ETag."""
    client.post(ROOT, FULL, format="json")
    client.patch(f"{ROOT}/chat", {"priority": 5}, format="json")
    for method in ("put", "patch", "delete"):
        response = getattr(client, method)(f"{ROOT}/chat", FULL, format="json", HTTP_IF_MATCH='"1"')
        assert (response.status_code, response["ETag"]) == (412, '"2"')
    for path, body in (("rollback", {"revision": 1}), ("redeploy", {})):
        response = client.post(f"{ROOT}/chat/{path}", body, format="json", HTTP_IF_MATCH='"1"')
        assert (response.status_code, response["ETag"]) == (412, '"2"'), path
    assert (
        client.patch(f"{ROOT}/chat", {"priority": 6}, format="json", HTTP_IF_MATCH='"2"').status_code == 202
    )


def test_the_name_is_for_life(client: APIClient) -> None:
    """Renaming would break every client that sends it."""
    client.post(ROOT, FULL, format="json")
    for method in ("put", "patch"):
        response = getattr(client, method)(f"{ROOT}/chat", FULL | {"name": "talk"}, format="json")
        assert (response.status_code, pointers(response)) == (400, {"/name"})


def test_the_same_post_twice_makes_one(client: APIClient) -> None:
    """The Idempotency-Key answers again; with another body it is refused."""
    first = client.post(ROOT, FULL, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    again = client.post(ROOT, FULL, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert (again.status_code, again.json()) == (202, first.json())
    assert again["Location"] == first["Location"]
    other = client.post(ROOT, FULL | {"name": "b"}, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert other.status_code == 409
    assert Deployment.objects.count() == 1


def test_a_dry_run_plans_and_writes_nothing(client: APIClient) -> None:
    """Where it would run, at what price, and why; no row is left."""
    body = client.post(f"{ROOT}?dry_run=true", FULL, format="json").json()
    assert body["deployment"] == FULL
    (row,) = body["plan"]["allocations"]
    assert (row["cluster"], row["pool"], row["min_replicas"], row["max_replicas"]) == (
        "eu-west",
        "on-demand",
        1,
        4,
    )
    assert (body["plan"]["usd_per_h"], body["plan"]["usd_per_h_max"]) == ("2.00", "8.00")
    assert body["plan"]["refusals"] == []
    assert not Deployment.objects.exists()
    relaxed = client.post(f"{ROOT}?dry_run=true", FULL | {"survivability": "region"}, format="json").json()
    assert [row["cluster"] for row in relaxed["plan"]["allocations"]] == ["eu-west"]
    assert (relaxed["plan"]["refusals"], body["plan"]["relaxed"]) == ([], [])
    assert [wish["rule"] for wish in relaxed["plan"]["relaxed"]] == ["survivability"]


def test_a_dry_run_of_a_change_counts_what_is_there_once(client: APIClient) -> None:
    """PUT and PATCH preview the deployment in its own place."""
    client.post(ROOT, FULL, format="json")
    path = f"{ROOT}/chat?dry_run=true"
    changes = {"autoscaling": {"min_replicas": 4}, "residency": ["jp"]}
    body = client.patch(path, changes, format="json").json()
    assert [(row["cluster"], row["min_replicas"]) for row in body["plan"]["allocations"]] == [
        ("ap-northeast", 4)
    ]
    assert client.get(f"{ROOT}/chat").json()["generation"] == 1


def test_a_deployment_that_never_ran_is_gone_at_once(client: APIClient) -> None:
    """Deleting drains what runs; where nothing does, the name is free again at once."""
    client.post(ROOT, FULL, format="json")
    assert client.delete(f"{ROOT}/chat").status_code == 202
    assert client.get(f"{ROOT}/chat").status_code == 404
    assert client.post(ROOT, FULL, format="json").status_code == 202


def test_lists_are_filtered_and_paged(client: APIClient) -> None:
    """By name, model, engine and readiness; a misspelt filter is refused."""
    for name in ("a", "b", "c"):
        client.post(ROOT, FULL | {"name": name}, format="json")
    page = client.get(f"{ROOT}?limit=2").json()
    assert [row["name"] for row in page["items"]] == ["c", "b"]
    rest = client.get(f"{ROOT}?limit=2&cursor={page['next_cursor']}").json()
    assert ([row["name"] for row in rest["items"]], rest["next_cursor"]) == (["a"], None)
    for query, names in [("name=b", ["b"]), ("model=other", []), ("engine=vllm", []), ("ready=true", [])]:
        assert [row["name"] for row in client.get(f"{ROOT}?{query}").json()["items"]] == names
    assert len(client.get(f"{ROOT}?ready=false").json()["items"]) == 3
    assert client.get(f"{ROOT}?nmae=b").status_code == 400


def test_a_list_costs_the_same_queries_however_long(client: APIClient, django_assert_num_queries) -> None:
    """No query per row: key, deployments, conditions, assignments, replicas."""
    for name in ("a", "b", "c"):
        client.post(ROOT, FULL | {"name": name}, format="json")
    client.get(ROOT)
    with django_assert_num_queries(5):
        client.get(f"{ROOT}?limit=1")
    with django_assert_num_queries(5):
        client.get(ROOT)
