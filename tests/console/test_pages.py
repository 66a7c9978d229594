"""The console's pages over HTTP: what they show, to whom, and what they refuse."""

import re
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings

from apps.accounts.models import ApiKey, Membership, Role, User
from apps.agents.models import EnrolmentToken, LogLines, LogWatch
from apps.api.models import AuditEvent
from apps.api.throttling import ApiKeyThrottle
from apps.catalog.models import EngineImage, ModelVersion, PerformanceProfile
from apps.deployments.models import Deployment, Revision
from apps.fleet.models import Cluster, GpuPool, InstanceType, Reservation
from apps.placements.models import Assignment, PlacementClock, PlacementPlan
from apps.telemetry.models import ScalingDecision
from controlplane.placement import plan_decode, plan_encode, problem_decode, problem_encode
from tests.console.world import World, world_double

pytestmark = pytest.mark.django_db

PAGES = (
    "/",
    "/overview/live",
    "/deployments",
    "/deployments?part=rows",
    "/deployments?name=chat",
    "/deployments/chat",
    "/deployments/chat/live",
    "/deployments/chat/logs",
    "/deployments/chat/edit",
    "/deployments/chat/delete",
    "/new-deployment",
    "/plans",
    "/plans/latest",
    "/plans/1/deployments/chat",
    "/plans/1/diff",
    "/plans/what-if",
    "/plans/replay",
    "/events",
    "/events?severity=warning",
    "/events?deployment=chat",
    "/clusters",
    "/clusters/eu-west",
    "/clusters/eu-west/retire",
    "/clusters/eu-west/pools/h100-spot",
    "/drains",
    "/health",
    "/health?part=live",
    "/incidents",
    "/incidents?part=rows",
    "/drains?part=rows",
    "/drills",
    "/drills?part=rows",
    "/drains/new?kind=region&name=eu-west-1",
    "/models",
    "/engines",
    "/keys",
    "/project-limits",
    "/audit",
)
VALID = {
    "name": "support",
    "model": "tiny-llama",
    "engine": "vllm",
    "min_replicas": "1",
    "max_replicas": "2",
    "concurrency_target": "8",
    "autoscaling_window_s": "60",
    "scale_down_delay_s": "300",
    "residency": "eu",
    "residency_ingress": "forward",
    "survivability": "none",
    "posture": "active_active",
    "priority": "0",
}


def logged_in(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


def revision_of(name: str) -> Revision:
    """What a deployment runs now."""
    revision = Deployment.objects.get(name=name).current_revision
    assert revision is not None
    return revision


def previewed(html: str) -> str:
    """The digest with which a preview can be confirmed."""
    found = re.search(r'name="previewed" value="([^"]+)"', html.replace("&quot;", "&#34;"))
    assert found, "the page shows no preview"
    return found.group(1).replace("&#34;", '"')


def test_every_page_answers(client: Client, world: World) -> None:
    """Each page renders for an administrator, uncached, under a policy that allows no inline script or style."""
    client = logged_in(client, world.admin)
    for path in PAGES:
        response = client.get(path)
        html = response.content.decode()
        assert response.status_code == 200, path
        assert "no-store" in response["Cache-Control"], path
        assert "script-src 'self'" in response["Content-Security-Policy"], path
        assert not re.search(r"<[^>]+\s(style|on\w+)=", html), path
        assert not re.search(r"<script(?![^>]+src=)", html), path


@pytest.mark.parametrize(
    "path", ["/deployments/foreign", "/deployments/foreign/edit", "/deployments/foreign/live"]
)
def test_another_tenants_deployment_does_not_exist(client: Client, world: World, path: str) -> None:
    """What belongs to another project looks exactly like what never was."""
    client = logged_in(client, world.viewer if path.endswith(("foreign", "live")) else world.admin)
    client.get("/?project=default")
    foreign = client.get(path)
    absent = client.get(path.replace("foreign", "nowhere"))
    assert foreign.status_code == absent.status_code == 404
    strip = re.compile(r"foreign|nowhere|csrfmiddlewaretoken\" value=\"\w+")
    assert strip.sub("", foreign.content.decode()) == strip.sub("", absent.content.decode())


def test_a_stranger_cannot_choose_the_project(client: Client, world: World) -> None:
    """``?project=`` with another organization's project is not found, by name and by id."""
    client = logged_in(client, world.stranger)
    for wanted in ("default", str(world.project.pk), "x\x00y"):
        assert client.get("/deployments", {"project": wanted}).status_code in (400, 404)
    assert b"foreign" in client.get("/deployments").content


def test_the_chosen_project_is_kept(client: Client, world: World) -> None:
    """A project chosen once stays chosen, also over a page that was refused."""
    client = logged_in(client, world.admin)
    client.get("/project", {"project": str(world.other_project.pk)})
    assert b"foreign" in client.get("/deployments").content
    client.get("/project", {"project": "no-such"})
    assert b"foreign" in client.get("/deployments").content


def test_a_form_acts_on_the_project_that_it_was_shown_for(client: Client, world: World) -> None:
    """Choosing another project in a second window does not turn what is sent from the first."""
    client = logged_in(client, world.admin)
    client.get("/project", {"project": str(world.project.pk)})
    shown = client.get("/keys").content.decode()
    sent = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', shown))
    client.get("/project", {"project": str(world.other_project.pk)})
    form = {**sent, "name": "from-the-first", "scopes": "inference", "max_priority": "normal"}
    assert client.post("/keys", form).status_code == 200
    assert ApiKey.objects.get(name="from-the-first").project == world.project


def test_a_viewer_can_look_but_not_touch(client: Client, world: World) -> None:
    """Every act is refused with 403 and none of its buttons is shown."""
    client = logged_in(client, world.viewer)
    for path in (
        "/new-deployment",
        "/deployments/chat/edit",
        "/deployments/chat/delete",
        "/deployments/chat/rollback",
        "/deployments/chat/redeploy",
        "/clusters/eu-west",
        "/clusters/eu-west/retire",
        "/clusters/eu-west/pools/h100-spot",
        "/keys",
    ):
        assert client.post(path).status_code == 403, path
    page = client.get("/deployments/chat").content
    assert b"Roll back to" not in page
    assert b"/delete" not in page


def test_the_deployment_page_says_what_truly_runs(client: Client, world: World) -> None:
    """A simulator in place of vLLM is marked; a phase that was not passed is left out, never shown as zero."""
    html = logged_in(client, world.admin).get("/deployments/chat").content.decode()
    assert html.count("simulated</span>") == 2
    assert "weight load 3.1 s, engine start 38 s" in html
    assert "GPU procurement 0" not in html


def test_the_call_shown_goes_where_it_is_taken(client: Client, world: World) -> None:
    """The page's curl command names a gateway inside the residency: elsewhere it might be refused."""
    html = logged_in(client, world.admin).get("/deployments/chat").content.decode()
    inside = [c.gateway_url for c in world.clusters.values() if c.region.jurisdiction in ("eu", "us")]
    assert any(f"curl -N {gateway}/v1/chat/completions" in html for gateway in inside)


def test_the_call_shown_goes_to_what_stands_before_all_gateways(
    client: Client, world: World, settings: Settings
) -> None:
    """Where one address leads to all gateways, clients are told that one and no other."""
    settings.ENDPOINT_URL = "https://llm.example.com"
    html = logged_in(client, world.admin).get("/deployments/chat").content.decode()
    assert "curl -N https://llm.example.com/v1/chat/completions" in html
    assert 'base_url="https://llm.example.com/v1"' in html


def test_a_refusal_is_shown_with_its_remedy(client: Client, world: World) -> None:
    """A deployment that found no room says which rule said no and what would make it fit."""
    html = logged_in(client, world.admin).get("/deployments/stuck").content.decode()
    assert "NoPoolFits" in html
    assert "free or add 2 GPUs in jurisdiction jp" in html
    assert "not placed" in client.get("/").content.decode()


def test_a_plan_says_who_runs_where_and_what_it_survives(client: Client, world: World) -> None:
    """Replicas by procurement in words, what is not kept with its remedy, verdicts; nothing of other projects."""
    html = logged_in(client, world.admin).get("/plans/1").content.decode()
    assert "Plan: deployments against regions" in html
    assert re.search(r'class="share reserved">\d reserved<', html)
    assert "<b>stuck</b>: not placed as wanted" in html
    assert "region eu-west-1" in html
    assert "foreign" not in html
    assert "beyond what is reserved; all projects" in html
    assert client.get("/plans/77").status_code == 404
    assert client.get("/plans/x").status_code == 404


def test_who_only_reads_sees_the_own_projects_money(client: Client, world: World) -> None:
    """On the plan, in what it changed and in the history, where a sum of all projects would tell the others' bill."""
    foreign = "beyond what is reserved; all projects"
    client = logged_in(client, world.viewer)
    plan, diff, history = (
        client.get(path).content.decode() for path in ("/plans/1", "/plans/1/diff", "/plans")
    )
    assert "beyond what is reserved; this project" in plan
    assert foreign not in plan
    assert "this project</dd>" in diff
    assert "all projects" not in diff
    assert 'data-label="Cost"' not in history


def test_a_planned_deployment_has_its_reasons_pool_by_pool(client: Client, world: World) -> None:
    """On a page of its own, and as a part of the plan's page; what is not this project's does not exist."""
    client = logged_in(client, world.admin)
    for address in ("/plans/1/deployments/stuck", "/plans/latest/deployments/stuck?part=reasons"):
        html = client.get(address).content.decode()
        assert "pools passed over, with reasons" in html, address
        assert "Not placed as wanted" in html, address
    assert "<html" not in html
    assert client.get("/plans/1/deployments/foreign").status_code == 404


def test_a_large_plan_is_paged_and_searched(client: Client, world: World) -> None:
    """Twenty-five deployments a page, found by a part of their name; as many queries as for two."""
    client = logged_in(client, world.admin)
    client.get("/plans/1")
    with CaptureQueriesContext(connection) as few:
        client.get("/plans/1")
    many_deployments(world, 60)
    with CaptureQueriesContext(connection) as many:
        first = client.get("/plans/1").content.decode()
    assert len(few) == len(many)
    rows = re.compile(r"/plans/1/deployments/([a-z0-9-]+)\"")
    assert len(set(rows.findall(first))) == 25
    cursor = re.search(r'href="\?cursor=([^"]+)">Next page', first)
    assert cursor
    second = client.get(f"/plans/1?cursor={cursor[1]}").content.decode()
    assert not set(rows.findall(first)) & set(rows.findall(second))
    found = client.get("/plans/1?name=many-7").content.decode()
    assert set(rows.findall(found)) == {"many-7"}
    assert (
        "No deployment of this project has zzz in its name"
        in client.get("/plans/1?name=zzz").content.decode()
    )


def test_a_question_is_answered_and_changes_nothing(client: Client, world: World) -> None:
    """By form, as a whole page or as htmx's part of it; a viewer may ask too."""
    client = logged_in(client, world.viewer)
    before = PlacementPlan.objects.count()
    question = {"lose": "region:us-east4", "price_pool": "eu-west/h100-reserved", "price_usd_per_h": "20.00"}
    whole = client.post("/plans/what-if", question)
    assert whole.status_code == 200
    html = whole.content.decode()
    assert "<html" in html
    assert re.search(r"\d moves? from us-east/h100-[a-z-]+ to eu-west/h100-", html)
    assert 'value="region:us-east4" selected' in html
    part = client.post("/plans/what-if", question, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    assert "What would be planned" in part
    assert PlacementPlan.objects.count() == before


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ({}, "ask for 1 to 20 at once"),
        ({"price_pool": "eu-west/h100-spot", "price_usd_per_h": "cheap"}, "decimal string of dollars"),
        ({"wish_deployment": "foreign", "wish_min_replicas": "1"}, "no deployment of this name here"),
        ({"demand_factor": "-1"}, "greater than or equal to 0"),
        ({"demand_factor": "nan"}, "Enter a number"),
        ({"add_hazard_per_h": "0.1"}, "Choose the cluster of this pool"),
        ({"add_cluster": "eu-west", "add_instance_type": "gcp-8xh100", "add_procurement": "spot",
          "add_instances": "1", "add_price_usd_per_h": "1", "add_hazard_per_h": "61"}, "less than or equal to 60"),
        ({"lose": "region:mars"}, "not one of the available choices"),
        ({"lose": "region:us-east4", "price_usd_per_h": "1"}, "Choose the pool that costs this"),
        ({"demand_deployment": "chat"}, "Say how many times its demand"),
        ({"wish_min_replicas": "1"}, "Name the deployment that wants this"),
        ({"add_cluster": "eu-west", "add_instance_type": "gcp-8xh100", "add_procurement": "spot",
          "add_instances": "1", "add_price_usd_per_h": "1"}, "has no instance type of this name"),
    ],
)  # fmt: skip
def test_a_question_that_is_none_says_so(
    client: Client, world: World, question: dict[str, str], says: str
) -> None:
    """At the field or above the form; with htmx in the part that is swapped, which must be a success."""
    client = logged_in(client, world.admin)
    answer = client.post("/plans/what-if", question)
    assert answer.status_code in (400, 422)
    assert says in answer.content.decode()
    part = client.post("/plans/what-if", question, headers={"HX-Request": "true"})
    assert (part.status_code, says in part.content.decode()) == (200, True)


def test_questions_by_form_have_the_same_budget(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the API refuses to answer more often, the console does not answer either."""
    monkeypatch.setattr(ApiKeyThrottle, "THROTTLE_RATES", {"solve": "1/minute"})
    monkeypatch.setattr(ApiKeyThrottle, "timer", lambda _: 30.0)
    cache.clear()
    client = logged_in(client, world.admin)
    question = {"lose": "region:us-east4"}
    assert client.post("/plans/what-if", question).status_code == 200
    refused = client.post("/plans/what-if", question)
    assert refused.status_code == 429
    assert "wait 30 s" in refused.content.decode()


def test_the_history_leads_to_what_each_plan_changed(client: Client, world: World) -> None:
    """The first against nothing, a later one against the one before."""
    client = logged_in(client, world.admin)
    assert 'href="/plans/1/diff"' in client.get("/plans").content.decode()
    first = client.get("/plans/1/diff").content.decode()
    assert "it was the first" in first
    assert "starts on eu-west/h100-reserved" in first
    assert client.get("/plans/1/diff?against=7").status_code == 404
    PlacementPlan.objects.create(
        organization=world.organization,
        plan_generation=2,
        problem=world.plan.problem,
        plan=world.plan.plan,
        micro_usd_per_h=world.plan.micro_usd_per_h,
        solve_s=0.1,
    )
    second = client.get("/plans/2/diff?against=1").content.decode()
    assert "Nothing changes for this project" in second
    assert 'name="against" min="1" value="1"' in second


def test_a_preview_tells_what_else_would_change(client: Client, world: World) -> None:
    """What the same plan does for others of the project is on the page, before anything is confirmed."""
    html = logged_in(client, world.admin).post("/new-deployment", VALID | {"act": "preview"}).content.decode()
    assert "Others would change too" in html
    assert "<p>chat: " in html


def test_a_failed_solve_is_told_on_the_plan_that_stays(client: Client, world: World) -> None:
    """With the reason, and without a word of it on older plans; a bound comes from the last full solve."""
    PlacementClock.objects.create(
        organization=world.organization,
        plan_generation=1,
        failures={"event": "RuntimeError: no memory"},
        full_solved_at=timezone.now(),
        lower_bound_micro_usd_per_h=40_000_000,
    )
    PlacementPlan.objects.update(objective_micro_usd_per_h=50_000_000)
    client = logged_in(client, world.admin)
    html = client.get("/plans/latest").content.decode()
    assert "RuntimeError: no memory" in html
    assert "no plan below $40.00" in html
    assert "25 <small>%</small>" in html
    assert "no memory" not in client.get("/plans/1").content.decode()


def test_a_certificate_is_shown_for_what_is_chosen(client: Client, world: World) -> None:
    """Regions alone, or all; what nobody knows of shows nothing."""
    client = logged_in(client, world.admin)
    assert "provider aws" in client.get("/plans/1").content.decode()
    regions = client.get("/plans/1?loss=region").content.decode()
    assert "region eu-west-1" in regions
    assert "provider aws" not in regions
    assert client.get("/plans/1?loss=planet").status_code == 200


def test_before_the_first_plan_the_page_says_so(client: Client, world: World) -> None:
    """The navigation's entry never ends in an error."""
    Assignment.objects.all().delete()
    PlacementPlan.objects.all().delete()
    assert "No plan yet" in logged_in(client, world.admin).get("/plans/latest").content.decode()


def many_deployments(world: World, count: int) -> None:
    """Put so many more deployments of the project into the stored plan."""
    problem, plan = problem_decode(world.plan.problem), plan_decode(world.plan.plan)
    model = problem.deployments[0]
    ids = [str(uuid.uuid4()) for _ in range(count)]
    wanted = tuple(
        replace(model, deployment_id=deployment_id, name=f"many-{index}")
        for index, deployment_id in enumerate(ids)
    )
    entries = tuple(
        replace(plan.by_deployment[model.deployment_id], deployment_id=deployment_id) for deployment_id in ids
    )
    world.plan.problem = problem_encode(replace(problem, deployments=(*problem.deployments, *wanted)))
    world.plan.plan = plan_encode(replace(plan, deployments=(*plan.deployments, *entries)))
    world.plan.save()


def test_a_new_deployment_is_seen_before_it_is_made(client: Client, world: World) -> None:
    """Preview shows cost and place and writes nothing; confirming the same form makes the deployment."""
    client = logged_in(client, world.admin)
    preview = client.post("/new-deployment", {**VALID, "act": "preview"})
    html = preview.content.decode()
    assert preview.status_code == 200
    assert "eu-west / h100-spot" in html
    assert "$3.98" in html
    assert not Deployment.objects.filter(name="support").exists()
    made = client.post("/new-deployment", {**VALID, "act": "confirm", "previewed": previewed(html)})
    assert made["Location"] == "/deployments/support"
    deployment = Deployment.objects.get(name="support")
    assert deployment.residency == ["eu"]
    assert deployment.created_by == world.admin


def test_only_what_was_shown_can_be_confirmed(client: Client, world: World) -> None:
    """A form that was changed after the preview is previewed again instead of deployed."""
    client = logged_in(client, world.admin)
    digest = previewed(client.post("/new-deployment", {**VALID, "act": "preview"}).content.decode())
    changed = client.post(
        "/new-deployment", {**VALID, "max_replicas": "9", "act": "confirm", "previewed": digest}
    )
    assert b"Something was changed since the preview" in changed.content
    assert not Deployment.objects.filter(name="support").exists()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "Not A Label", "digits and hyphens"),
        ("name", "chat", "is taken"),
        ("min_replicas", "3", "3 is more than max_replicas 2"),
        ("min_replicas", "many", "whole number"),
        ("max_replicas", "100001", "less than or equal to 10000"),
        ("concurrency_target", "nan", "number"),
        ("residency", "mars", "not one of the available choices"),
        ("model", "unknown", "not one of the available choices"),
        ("slo_ttft_s_p95", "-1", "greater than or equal to"),
        ("demand", "eu-west-1 many", "write a region and two numbers"),
        ("demand", "mars 1 1", "is not a known region"),
        ("providers_denied", "mars", "is not a known provider"),
    ],
)
def test_a_wrong_field_says_so_at_the_field(
    client: Client, world: World, field: str, value: str, said: str
) -> None:
    """Whoever judges it, form or service, the complaint stands at its field, and nothing is written."""
    before = Deployment.objects.count()
    response = logged_in(client, world.admin).post(
        "/new-deployment", {**VALID, field: value, "act": "preview"}
    )
    assert 400 <= response.status_code < 500
    error = re.search(rf'id="id_{field}_error">(.*?)</div>', response.content.decode(), re.DOTALL)
    assert error is not None
    assert said in error.group(1)
    assert Deployment.objects.count() == before


def test_two_people_do_not_overwrite_each_other(client: Client, world: World) -> None:
    """A form opened before somebody else's change is refused with 412, and shows why."""
    client = logged_in(client, world.admin)
    form = {key: value for key, value in VALID.items() if key != "name"}
    etag = '"1"'
    html = client.post("/deployments/chat/edit", {**form, "etag": etag, "act": "preview"}).content.decode()
    Deployment.objects.filter(name="chat").update(generation=7)
    confirm = {**form, "etag": etag, "act": "confirm", "previewed": previewed(html)}
    response = client.post("/deployments/chat/edit", confirm)
    assert response.status_code == 412
    assert b"It has changed since it was read" in response.content


def test_an_edit_keeps_what_it_does_not_change(client: Client, world: World) -> None:
    """The form opens with the deployment's values; sending it back changes only what was changed."""
    client = logged_in(client, world.admin)
    html = client.get("/deployments/chat/edit").content.decode()
    assert 'name="slo_ttft_s_p95" value="1.0"' in html
    form = {
        **VALID,
        "residency": ["eu", "us"],
        "min_replicas": "2",
        "max_replicas": "8",
        "slo_ttft_s_p95": "1.0",
        "providers_denied": "gcp",
        "demand": "* 2.5 400\n",
    }
    del form["name"]
    preview = client.post(
        "/deployments/chat/edit", {**form, "etag": '"1"', "act": "preview"}
    ).content.decode()
    confirm = {**form, "etag": '"1"', "act": "confirm", "previewed": previewed(preview)}
    assert client.post("/deployments/chat/edit", confirm)["Location"] == "/deployments/chat"
    chat = Deployment.objects.get(name="chat")
    assert (chat.autoscaling.max_replicas, chat.slo_ttft_s_p95, revision_of("chat").number) == (8, 1.0, 2)
    assert chat.providers_denied == ["gcp"]
    assert chat.demand == [{"origin": None, "requests_per_s": 2.5, "output_tokens_per_s": 400.0}]
    html = client.get("/deployments/chat/edit").content.decode()
    assert "* 2.5 400" in html and 'name="providers_denied" value="gcp"' in html


def test_deleting_asks_for_the_name(client: Client, world: World) -> None:
    """A wrong name deletes nothing; the right one drains first."""
    client = logged_in(client, world.admin)
    assert client.post("/deployments/chat/delete", {"confirm": "chta"}).status_code == 422
    assert Deployment.objects.get(name="chat").deletion_requested_at is None
    assert client.post("/deployments/chat/delete", {"confirm": "chat"}).status_code == 302
    assert Deployment.objects.get(name="chat").deletion_requested_at is not None
    assert "deleting" in client.get("/deployments").content.decode()


def test_retiring_a_cluster_asks_for_its_name(client: Client, world: World) -> None:
    """A wrong name retires nothing; the right one does, for good, and the page says so."""
    client = logged_in(client, world.admin)
    assert "/clusters/eu-west/retire" in client.get("/clusters/eu-west").content.decode()
    assert client.post("/clusters/eu-west/retire", {"confirm": "eu"}).status_code == 422
    assert Cluster.objects.get(name="eu-west").retired_at is None
    assert client.post("/clusters/eu-west/retire", {"confirm": "eu-west"}).status_code == 302
    assert Cluster.objects.get(name="eu-west").retired_at is not None
    html = client.get("/clusters/eu-west").content.decode()
    assert "its agent is refused, for good" in html
    assert "Create an enrolment token" not in html


def test_a_pool_and_its_reservation_are_changed_by_form(client: Client, world: World) -> None:
    """Wrong fields say so at the field, a stale form is refused, a good one wakes placement."""
    client = logged_in(client, world.admin)
    pool = GpuPool.objects.get(cluster__name="eu-west", procurement="reserved")
    page = f"/clusters/eu-west/pools/{pool.name}"
    form = {"capacity_instances": "3", "price_micro_usd_per_h": "30.5", "hazard_per_h": "0",
            "obtainability": "0.9", "schedulable": "on", "etag": f'"{pool.generation}"'}  # fmt: skip
    html = client.get(page).content
    assert b"To empty it for a time, drain it" in html
    assert b"How many are worth reserving can" in html
    assert b"no price of a reserved instance is known" in html
    for wrong in ({"price_micro_usd_per_h": "much"}, {"obtainability": "0"}, {"capacity_instances": "-1"}):
        response = client.post(page, {**form, **wrong})
        assert response.status_code == 422
        assert f'id="id_{next(iter(wrong))}_error"' in response.content.decode()
    assert client.post(page, {**form, "etag": '"99"'}).status_code == 412
    assert client.post(page, form)["Location"] == "/clusters/eu-west"
    pool.refresh_from_db()
    assert (pool.capacity_instances, pool.obtainability) == (3, 0.9)
    assert pool.prices.latest("effective_from").instance_micro_usd_per_h == 30_500_000

    held = Reservation.objects.create(
        pool=pool,
        instances=1,
        instance_micro_usd_per_h=20_000_000,
        starts_at=timezone.now(),
        ends_at=timezone.now() + timedelta(days=9),
    )
    assert f"/reservations/{held.pk}" in client.get(page).content.decode()
    change = {"instances": "2", "price_micro_usd_per_h": "19.00", "starts_at": "2026-01-01 00:00",
              "ends_at": "2027-01-01 00:00"}  # fmt: skip
    early = client.post(f"/reservations/{held.pk}", {**change, "ends_at": "2025-01-01 00:00"})
    assert (early.status_code, b"is not after starts_at" in early.content) == (400, True)
    assert client.post(f"/reservations/{held.pk}", change)["Location"] == page
    held.refresh_from_db()
    assert (held.instances, held.instance_micro_usd_per_h) == (2, 19_000_000)


def test_rolling_back_makes_a_new_revision(client: Client, world: World) -> None:
    """What revision 1 ran becomes revision 3; what is no revision is refused."""
    client = logged_in(client, world.admin)
    assert client.post("/deployments/chat/rollback", {"revision": "1"}).status_code == 302
    assert revision_of("chat").number == 3
    for wrong in ("99", "-1", "x", "", "9" * 40):
        assert 400 <= client.post("/deployments/chat/rollback", {"revision": wrong}).status_code < 500


def test_a_newer_engine_image_is_offered_and_taken(client: Client, world: World) -> None:
    """The page says when a newer image is there; taking it makes a revision, and then nothing newer is left."""
    client = logged_in(client, world.admin)
    assert "A newer image" not in client.get("/deployments/chat").content.decode()
    EngineImage.objects.create(engine="vllm", version="0.33.0", digest="sha256:" + "d" * 64)
    assert "A newer image is there: vllm 0.33.0" in client.get("/deployments/chat").content.decode()
    assert client.post("/deployments/chat/redeploy").status_code == 302
    assert revision_of("chat").engine_image.version == "0.33.0"
    assert client.post("/deployments/chat/redeploy").status_code == 409


def test_a_key_is_shown_once_and_stored_as_a_hash(client: Client, world: World) -> None:
    """The answer to the form holds the key; no later page, no row and no audit entry does."""
    client = logged_in(client, world.admin)
    new = {"name": "ci", "scopes": ["inference"], "expires_in_days": "30", "max_priority": "normal"}
    made = client.post("/keys", new)
    secret = re.search(r'id="secret">(mrd_[^<]+)<', made.content.decode())
    assert secret is not None
    assert "no-store" in made["Cache-Control"]
    assert secret.group(1) not in client.get("/keys").content.decode()
    assert secret.group(1) not in str(list(AuditEvent.objects.values())) + str(list(ApiKey.objects.values()))
    assert ApiKey.objects.get(name="ci").expires_at is not None


def test_a_keys_limits_are_shown(client: Client, world: World) -> None:
    """What a key may use is read where keys are; one without limits says so."""
    client = logged_in(client, world.admin)
    assert "no limit" in client.get("/keys").content.decode()
    ApiKey.objects.filter(name="laptop").update(
        requests_per_minute=None, tokens_per_minute=20_000, concurrent_requests=8, max_priority="low"
    )
    shown = client.get("/keys").content.decode()
    assert "20,000 tokens / min" in shown
    assert "8 at once" in shown
    assert "priority low" in shown


LIMITS = {"requests_per_minute": "600", "tokens_per_minute": "", "concurrent_requests": "8"}


def test_a_keys_limits_are_set_with_it_and_changed_later(client: Client, world: World) -> None:
    """The form for a new key holds them; the form for a key shows them, changes them, and takes them away."""
    client = logged_in(client, world.admin)
    new = {"name": "ci", "scopes": ["inference"], **LIMITS, "max_priority": "high"}
    assert client.post("/keys", new).status_code == 200
    key = ApiKey.objects.get(name="ci")
    assert (key.requests_per_minute, key.tokens_per_minute, key.concurrent_requests) == (600, None, 8)
    assert key.max_priority == "high"
    shown = client.get(f"/keys/{key.pk}/limits").content.decode()
    assert 'name="requests_per_minute" value="600"' in shown
    changed = {**LIMITS, "requests_per_minute": "", "tokens_per_minute": "9000", "max_priority": "low"}
    assert client.post(f"/keys/{key.pk}/limits", changed)["Location"] == "/keys"
    key.refresh_from_db()
    assert (key.requests_per_minute, key.tokens_per_minute, key.concurrent_requests) == (None, 9000, 8)
    assert key.max_priority == "low"
    assert "9,000 tokens / min" in client.get("/keys").content.decode()


def test_the_projects_limits_are_shown_and_changed(client: Client, world: World) -> None:
    """Where keys are and on a deployment's page it is read what all of them may use together."""
    client = logged_in(client, world.admin)
    assert client.post("/project-limits", LIMITS)["Location"] == "/keys"
    world.project.refresh_from_db()
    assert (world.project.requests_per_minute, world.project.tokens_per_minute) == (600, None)
    for path in ("/keys", "/deployments/chat"):
        shown = client.get(path).content.decode()
        assert "600 requests / min" in shown and "8 at once" in shown, path
    assert AuditEvent.objects.filter(action="changed").exists()


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1.5", "4294967296"])
def test_a_wrong_limit_changes_nothing(client: Client, world: World, wrong: str) -> None:
    """Told at the field, for a key and for the project."""
    client = logged_in(client, world.admin)
    key = ApiKey.objects.get(name="laptop")
    for path in (f"/keys/{key.pk}/limits", "/project-limits"):
        response = client.post(path, {**LIMITS, "tokens_per_minute": wrong, "max_priority": "low"})
        assert response.status_code == 422
        assert b'class="error"' in response.content
    key.refresh_from_db()
    world.project.refresh_from_db()
    assert key.requests_per_minute is None and world.project.requests_per_minute is None


def test_limits_are_for_those_who_may_set_them(client: Client, world: World) -> None:
    """A viewer reads them and is offered nothing; an operator sets keys' and not the project's; others find no key."""
    key = ApiKey.objects.get(name="laptop")
    member = Membership.objects.get(user=world.viewer)
    viewer = logged_in(client, world.viewer)
    html = viewer.get("/keys").content.decode()
    assert "no limit" in html and "/limits" not in html and "/project-limits" not in html
    assert viewer.post(f"/keys/{key.pk}/limits", {**LIMITS, "max_priority": "low"}).status_code == 403
    member.role = Role.OPERATOR
    member.save()
    assert viewer.post("/project-limits", LIMITS).status_code == 403
    assert viewer.post(f"/keys/{key.pk}/limits", {**LIMITS, "max_priority": "low"}).status_code == 302
    stranger = logged_in(client, world.stranger)
    assert stranger.post(f"/keys/{key.pk}/limits", {**LIMITS, "max_priority": "low"}).status_code == 404


def test_models_tell_what_they_take_and_their_adapters(client: Client, world: World) -> None:
    """Of each version: modalities, and the adapters that a deployment may name."""
    client = logged_in(client, world.admin)
    ModelVersion.objects.filter(model__project=world.project).update(modalities=["text", "image"])
    html = client.get("/models").content.decode()
    assert "text, image" in html
    assert 'title="rank 8, sha256:eeee' in html and ">french</span>" in html
    assert "text, image" in client.get("/deployments/chat").content.decode()


def test_a_measured_curve_is_drawn_with_the_size_that_follows(client: Client, world: World) -> None:
    """On the models' page, and on the page of a deployment that runs it, by its own goals."""
    revision = world.chat.current_revision
    assert revision is not None
    points = [
        {
            "concurrency": concurrency,
            "requests_per_s": tokens / 100,
            "tokens_per_s": tokens,
            "ttft_s_p50": ttft / 2,
            "ttft_s_p95": ttft,
            "inter_token_latency_s_p50": 0.02,
            "inter_token_latency_s_p95": 0.03,
        }
        for concurrency, tokens, ttft in ((1, 50.0, 0.1), (16, 640.0, 0.5), (64, 1200.0, 4.5))
    ]
    PerformanceProfile.objects.create(
        model_version=revision.model_version,
        instance_type=InstanceType.objects.order_by("name")[0],
        requests_per_s=6.4,
        tokens_per_s=640,
        concurrency=16,
        curve=points,
        input_tokens_mean=200,
        slo_ttft_s_p95=0.5,
    )
    client = logged_in(client, world.admin)
    html = client.get("/models").content.decode()
    assert "<b>16 side by side</b>" in html
    assert "Throughput of a replica" in html and 'class="chart-goal"' in html
    html = client.get("/deployments/chat").content.decode()
    assert "Batch size: <b>" in html and "side by side a replica keeps the SLO, as replicas do now" in html
    world.chat.slo_ttft_s_p95 = None
    world.chat.save()
    html = client.get("/deployments/chat").content.decode()
    assert "<b>64</b> side by side a replica is the most that was measured (it may take more), as" in html


def test_replicas_are_drawn_against_demand_with_the_last_decisions(client: Client, world: World) -> None:
    """What agents decided, and why; another cluster's last word for none is not shown beside those that want some."""
    revision = world.chat.current_revision
    assert revision is not None
    now = timezone.now()
    for cluster, replicas, ago_s, reason in (
        ("eu-west", 2, 300, "<old>"),
        ("eu-west", 3, 120, "9.00 replicas' worth <b>now</b>"),
        ("us-east", 0, 60, "no load"),
    ):
        ScalingDecision.objects.create(
            cluster_id=world.clusters[cluster].pk,
            deployment_id=world.chat.pk,
            revision_id=revision.pk,
            decided_at=now - timedelta(seconds=ago_s),
            policy="predictive",
            replicas=replicas,
            ready=1,
            at_hand=9.0,
            reasons=[reason],
        )
    html = logged_in(client, world.admin).get("/deployments/chat/live").content.decode()
    assert "Replicas against demand" in html
    assert "9.00 replicas&#x27; worth &lt;b&gt;now&lt;/b&gt;" in html
    assert "old&gt;" not in html and "no load" not in html
    assert "wanted <b>3</b>" in html


def test_a_wrong_key_form_makes_no_key(client: Client, world: World) -> None:
    """No scope, an unknown one, or a name that is taken: told at the field."""
    client = logged_in(client, world.admin)
    for wrong in ({"name": "a"}, {"name": "a", "scopes": ["root"]}, {"name": "laptop", "scopes": ["read"]}):
        response = client.post("/keys", wrong)
        assert 400 <= response.status_code < 500
        assert b'class="error"' in response.content
    assert ApiKey.objects.count() == 1


def test_revoking_asks_first(client: Client, world: World) -> None:
    """The first click asks, the second revokes, and the list says so."""
    client = logged_in(client, world.admin)
    key = ApiKey.objects.get(name="laptop")
    client.post(f"/keys/{key.pk}/revoke")
    assert ApiKey.objects.get(pk=key.pk).revoked_at is None
    client.post(f"/keys/{key.pk}/revoke", {"confirmed": "yes"})
    assert ApiKey.objects.get(pk=key.pk).revoked_at is not None
    assert "revoked</span>" in client.get("/keys").content.decode()


def test_an_enrolment_token_is_shown_once(client: Client, world: World) -> None:
    """As with keys: in the answer to the form alone, and never cached."""
    client = logged_in(client, world.admin)
    made = client.post("/clusters/eu-west")
    token = re.search(r'id="token">([^<]+)<', made.content.decode())
    assert token is not None
    assert "no-store" in made["Cache-Control"]
    assert token.group(1) not in client.get("/clusters/eu-west").content.decode()
    assert EnrolmentToken.objects.get().cluster == world.clusters["eu-west"]


def test_what_users_write_is_never_markup(client: Client, world: World) -> None:
    """A message with tags in it is shown as text."""
    condition = world.chat.conditions.get(type="Ready")
    condition.message = "<script>alert(1)</script>"
    condition.save()
    html = logged_in(client, world.admin).get("/deployments/chat").content.decode()
    assert "<script>alert(1)" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_forms_need_their_token(world: World) -> None:
    """A form sent from another site is refused."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.admin)
    assert client.post("/keys", {"name": "x", "scopes": ["read"]}).status_code == 403
    assert ApiKey.objects.filter(name="x").count() == 0


def test_pages_cost_the_same_number_of_queries_however_much_there_is(
    client: Client, world: World, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """No query for each row: twice as many replicas, deployments and events cost no query more."""
    client = logged_in(client, world.admin)
    paths = (
        "/",
        "/deployments",
        "/deployments/chat/live",
        "/clusters",
        "/clusters/us-east",
        "/events",
        "/audit",
    )
    counted = {}
    for path in paths:
        client.get(path)
        with CaptureQueriesContext(connection) as before:
            client.get(path)
        counted[path] = len(before)
    world_double(world)
    for path in paths:
        with django_assert_num_queries(counted[path]):
            client.get(path)


def test_logs_show_what_was_delivered_and_are_audited(client: Client, world: World) -> None:
    """Lines come escaped under their replica, others say what they wait for; a reader without the right sees none."""
    admin = logged_in(client, world.admin)
    assert b"first lines come within seconds" in admin.get("/deployments/chat/logs").content
    watch = LogWatch.objects.order_by("pk").first()
    assert watch is not None
    LogWatch.objects.filter(pk=watch.pk).update(answered_at=timezone.now(), kept=True)
    LogLines.objects.create(watch=watch, text="<b>ready</b>\n")
    shown = admin.get("/deployments/chat/logs").content.decode()
    assert "&lt;b&gt;ready&lt;/b&gt;" in shown
    assert str(watch.replica_id)[:8] in shown
    assert AuditEvent.objects.filter(action="logs_read").count() == 1
    viewer = logged_in(client, world.viewer)
    assert viewer.get("/deployments/chat/logs").status_code == 403
    assert b"Show and follow" not in viewer.get("/deployments/chat").content
