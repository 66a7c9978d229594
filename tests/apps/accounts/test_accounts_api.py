"""Keys, members and projects over REST."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.models import ApiKey, Membership, Role, User
from apps.api.models import AuditEvent, IdempotentAnswer
from apps.placements.models import PlacementClock
from tests.apps.conftest import Tenant, bearer, pointers

pytestmark = pytest.mark.django_db

KEYS = "/api/v1/api-keys"


def test_a_key_is_shown_once_and_stored_nowhere(acme: Tenant) -> None:
    """Neither the row, nor the list, nor the audit trail, nor a replayed answer can give it away."""
    made = acme.client.post(
        KEYS, {"name": "ci", "scopes": ["read"]}, format="json", HTTP_IDEMPOTENCY_KEY="once"
    )
    key = made.json()["key"]
    assert key.startswith(made.json()["prefix"] + "_")
    assert bearer(key).get("/api/v1/me").json()["right"] == "read"
    again = acme.client.post(
        KEYS, {"name": "ci", "scopes": ["read"]}, format="json", HTTP_IDEMPOTENCY_KEY="once"
    )
    assert (again.status_code, again.json()["key"]) == (201, None)
    assert again.json()["note"]
    secret = key.removeprefix(made.json()["prefix"] + "_")  # it may hold underscores of its own
    kept = [
        acme.client.get(KEYS).content.decode(),
        str(list(AuditEvent.objects.values())),
        str(list(IdempotentAnswer.objects.values())),
        str(list(ApiKey.objects.values())),
    ]
    assert not any(secret in text for text in kept)


def test_a_revoked_an_expired_and_an_unknown_key_are_told_apart(acme: Tenant) -> None:
    """401, with the reason and a challenge, so that its owner knows what to do."""
    doomed = acme.client.post(KEYS, {"name": "doomed", "scopes": ["read"]}, format="json").json()
    assert acme.client.delete(f"{KEYS}/{doomed['id']}").status_code == 204
    old = acme.client.post(KEYS, {"name": "old", "scopes": ["read"]}, format="json").json()
    ApiKey.objects.filter(pk=old["id"]).update(expires_at=timezone.now() - timedelta(seconds=1))
    for key, reason in (
        (doomed["key"], "key_revoked"),
        (old["key"], "key_expired"),
        ("mrd_no", "key_unknown"),
    ):
        response = bearer(key).get("/api/v1/clusters")
        assert (response.status_code, response.json()["type"]) == (401, f"urn:meridian:problem:{reason}")
        assert response["WWW-Authenticate"].startswith("Bearer")
        assert key not in response.content.decode()


def test_a_key_cannot_give_more_than_it_has(acme: Tenant, person: Callable[..., APIClient]) -> None:
    """Keys are made by operators, and never beyond the maker's own right."""
    reader = acme.client.post(KEYS, {"name": "r", "scopes": ["read"]}, format="json").json()["key"]
    response = bearer(reader).post(KEYS, {"name": "x", "scopes": ["operate"]}, format="json")
    assert (response.status_code, response.json()["type"]) == (403, "urn:meridian:problem:forbidden")
    assert (
        person("vera", Role.VIEWER).post(KEYS, {"name": "x", "scopes": ["read"]}, format="json").status_code
        == 403
    )


def test_a_key_for_inference_alone_opens_nothing_here(acme: Tenant) -> None:
    """It may ask who it is, and that is all."""
    key = acme.client.post(KEYS, {"name": "app", "scopes": ["inference"]}, format="json").json()["key"]
    assert bearer(key).get("/api/v1/me").json()["right"] is None
    assert bearer(key).get("/api/v1/clusters").status_code == 403


def test_a_revoked_name_may_be_used_again(acme: Tenant) -> None:
    """A taken name is a conflict at /name; a revoked key's name is free."""
    document = {"name": "ci", "scopes": ["read"]}
    first = acme.client.post(KEYS, document, format="json").json()
    taken = acme.client.post(KEYS, document, format="json")
    assert (taken.status_code, taken.json()["type"], pointers(taken)) == (
        409,
        "urn:meridian:problem:name_taken",
        {"/name"},
    )
    acme.client.delete(f"{KEYS}/{first['id']}")
    assert acme.client.post(KEYS, document, format="json").status_code == 201


def test_keys_of_another_project_do_not_exist(acme: Tenant, rival: Tenant) -> None:
    """404 for another tenant's key, as for one that never was."""
    theirs = ApiKey.objects.get(project=rival.project)
    assert acme.client.get(f"{KEYS}/{theirs.pk}").status_code == 404
    assert acme.client.delete(f"{KEYS}/{theirs.pk}").status_code == 404
    assert acme.client.get(f"{KEYS}?project={rival.project.pk}").status_code == 404
    theirs.refresh_from_db()
    assert theirs.revoked_at is None


def test_using_a_key_is_noted_at_most_once_a_minute(
    acme: Tenant, django_assert_num_queries: Callable[..., AbstractContextManager[object]]
) -> None:
    """The first use writes; the next one only reads."""
    acme.client.get("/api/v1/me")
    used = ApiKey.objects.get(project=acme.project).last_used_at
    assert used is not None
    with django_assert_num_queries(1):
        acme.client.get("/api/v1/me")


def test_roles_decide_what_a_person_may_do(person: Callable[..., APIClient]) -> None:
    """A viewer reads, an operator makes keys, an owner manages members."""
    clients = {role: person(f"{role}-x", role) for role in Role}
    for role, expected in (
        (Role.VIEWER, (200, 403, 403)),
        (Role.OPERATOR, (200, 201, 403)),
        (Role.OWNER, (200, 201, 201)),
    ):
        client = clients[role]
        statuses = (
            client.get("/api/v1/clusters").status_code,
            client.post(KEYS, {"name": f"k-{role}", "scopes": ["read"]}, format="json").status_code,
            client.post("/api/v1/projects", {"name": f"p-{role}"}, format="json").status_code,
        )
        assert statuses == expected


def test_an_organization_always_keeps_an_owner(person: Callable[..., APIClient]) -> None:
    """The last owner can neither leave nor step down."""
    owner = person("olga", Role.OWNER)
    assert owner.patch("/api/v1/members/olga", {"role": "viewer"}, format="json").status_code == 409
    assert owner.delete("/api/v1/members/olga").status_code == 409
    person("otto", Role.OWNER)
    assert owner.patch("/api/v1/members/olga", {"role": "viewer"}, format="json").status_code == 200
    assert Membership.objects.filter(role=Role.OWNER).count() == 1


def test_a_session_with_several_projects_must_say_which(
    person: Callable[..., APIClient], rival: Tenant
) -> None:
    """By name or id; a project of others does not exist."""
    owner = person("olga", Role.OWNER)
    assert owner.get(KEYS).status_code == 200
    owner.post("/api/v1/projects", {"name": "second"}, format="json")
    unsaid = owner.get(KEYS)
    assert (unsaid.status_code, unsaid.json()["type"]) == (400, "urn:meridian:problem:project_wanted")
    assert owner.get(f"{KEYS}?project=second").status_code == 200
    assert owner.get(f"{KEYS}?project={rival.project.pk}").status_code == 404


def test_a_session_needs_its_csrf_token(administrator: User) -> None:
    """A page elsewhere cannot post with the reader's cookie."""
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(administrator)
    response = client.post("/api/v1/organizations", {"name": "forged"}, format="json")
    assert (response.status_code, response["Content-Type"]) == (403, "application/problem+json")


def test_a_session_may_send_an_idempotency_key(administrator: User) -> None:
    """The check of the CSRF token and the key both need the body."""
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(administrator)
    client.cookies["csrftoken"] = "c" * 32
    headers: dict[str, Any] = {"HTTP_X_CSRFTOKEN": "c" * 32, "HTTP_IDEMPOTENCY_KEY": "k"}
    answers = [
        client.post("/api/v1/organizations", {"name": "new"}, format="json", **headers) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


def test_a_new_account_gets_a_password_that_only_the_answer_knows(admin: APIClient) -> None:
    """Shown once, long, and it works."""
    made = admin.post("/api/v1/users", {"username": "nina"}, format="json").json()
    assert len(made["initial_password"]) >= 20
    assert APIClient().login(username="nina", password=made["initial_password"])


def test_a_key_and_a_project_have_limits_that_can_change(
    acme: Tenant, person: Callable[..., APIClient]
) -> None:
    """Given with the key or later, taken away with null; what is no limit is refused; the change is on record."""
    made = acme.client.post(
        KEYS,
        {"name": "app", "scopes": ["inference"], "requests_per_minute": 60, "max_priority": "high"},
        format="json",
    ).json()
    assert (made["requests_per_minute"], made["tokens_per_minute"], made["max_priority"]) == (
        60,
        None,
        "high",
    )
    changed = acme.client.patch(
        f"{KEYS}/app", {"requests_per_minute": None, "tokens_per_minute": 1000}, format="json"
    )
    assert changed.status_code == 200
    assert (changed.json()["requests_per_minute"], changed.json()["tokens_per_minute"]) == (None, 1000)
    assert acme.client.get(f"{KEYS}/app").json() == changed.json()
    noted = AuditEvent.objects.filter(action="changed").latest("pk")
    assert (noted.before, noted.after) == (
        {"requests_per_minute": 60, "tokens_per_minute": None},
        {"requests_per_minute": None, "tokens_per_minute": 1000},
    )
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"concurrent_requests": 0}, "/concurrent_requests"),
        ({"tokens_per_minute": 2**31}, "/tokens_per_minute"),
        ({"max_priority": "highest"}, "/max_priority"),
        ({"scopes": ["read"]}, "/scopes"),
    ]
    for body, pointer in wrong:
        response = acme.client.patch(f"{KEYS}/app", body, format="json")
        assert (response.status_code, pointers(response)) == (400, {pointer})

    owner = person("olga", Role.OWNER)
    project = f"/api/v1/projects/{acme.project.name}"
    assert acme.client.patch(project, {"concurrent_requests": 5}, format="json").status_code == 403
    response = owner.patch(project, {"concurrent_requests": 5}, format="json")
    assert (response.status_code, response.json()["concurrent_requests"]) == (200, 5)


def test_an_owner_bounds_what_a_project_may_spend(acme: Tenant, person: Callable[..., APIClient]) -> None:
    """Set and taken away by owners alone; placement is told when it differs, and only then."""
    project = f"/api/v1/projects/{acme.project.name}"
    owner = person("olga", Role.OWNER)
    assert owner.get(project).json()["budget_usd_per_h"] is None
    assert acme.client.patch(project, {"budget_usd_per_h": "5.00"}, format="json").status_code == 403
    for _ in range(2):
        changed = owner.patch(project, {"budget_usd_per_h": "12.50"}, format="json")
        assert (changed.status_code, changed.json()["budget_usd_per_h"]) == (200, "12.50")
        assert PlacementClock.objects.get().wanted == 1
    for wrong in ("-1", 3, "much"):
        response = owner.patch(project, {"budget_usd_per_h": wrong}, format="json")
        assert (response.status_code, pointers(response)) == (400, {"/budget_usd_per_h"})
    assert owner.patch(project, {"budget_usd_per_h": None}, format="json").json()["budget_usd_per_h"] is None
    assert PlacementClock.objects.get().wanted == 2
