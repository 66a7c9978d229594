"""The whole API against its own description: generated requests, good and bad, with a fixed seed.

Nothing may end in a 5xx, in a status, a media type or a body that the description does not know, or be accepted
although the description forbids it. So that requests get past the door, the caller is an administrator with one
project, and half of all addresses name something that exists. A savepoint around each request keeps the world.

Schemathesis thinks out fifty ways of asking for an operation, most of them wrong. ``make test`` tries a third of them,
from one operation to the next another third; ``make test-long`` tries all.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.conf import LazySettings
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, settings
from rest_framework.test import APIClient
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.pytest.lazy import get_all_tests
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from apps.accounts.models import User
from apps.incidents.models import Incident, IncidentRecord
from tests.apps.conftest import Tenant
from tests.support.examples import thinned

pytestmark = [pytest.mark.slow, pytest.mark.django_db, pytest.mark.usefixtures("world")]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
EXAMPLES = 6
#: The operations are dealt out to so many tests. What is sent is thought out when these run: Schemathesis' own
#: collector does it in every process of a run, and took a third of the time that it takes to collect all tests.
PARTS = 12
#: First segment of an address -> the name of something that is there.
NAMES = {
    "api-keys": "all",
    "clusters": "c1",
    "deployments": "chat",
    "failure-domains": "eu-1a",
    "gpu-types": "L4",
    "instance-types": "g6.xlarge",
    "models": "llama",
    "organizations": "acme",
    "plans": "1",
    "projects": "default",
    "providers": "aws",
    "regions": "eu-1",
}
#: Further parameters of addresses.
BELOW = {"version": "1", "adapter": "legal"}
#: Stands for an id that is known only when the world has been made.
KNOWN = "known"
CSRF = "c" * 32


def description() -> dict[str, Any]:
    """As it is served, except that addresses may be ``known`` and that nobody asks for another tenant."""
    document: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    for path, methods in document["paths"].items():
        known = NAMES.get(path.removeprefix("/api/v1/").partition("/")[0], KNOWN)
        for operation in methods.values():
            kept = [
                p for p in operation.get("parameters", []) if p["name"] not in ("project", "organization")
            ]
            for parameter in kept:
                if parameter["in"] == "path":
                    parameter["schema"] = {
                        "type": "string",
                        "enum": [BELOW.get(parameter["name"], known), "nothing"],
                    }
            operation["parameters"] = kept
            operation.pop("security", None)
    return document


@pytest.fixture(scope="module")
def described() -> BaseSchema:
    """The API by its description."""
    schema = schemathesis.openapi.from_dict(description())
    schema.app = get_wsgi_application()
    return schema


@pytest.fixture
def known(acme: Tenant, admin: APIClient, settings: LazySettings) -> dict[str, str]:
    """One of everything; the ids of those that have no name, by the first segment of their address."""
    model_version = {
        "version": "1",
        "digest": "sha256:" + "0" * 64,
        "source_uri": "s3://weights/llama",
        "precision": "bf16",
        "size_bytes": 2_000_000,
        "max_context_tokens": 512,
    }
    pool = {
        "cluster": "c1",
        "name": "main",
        "instance_type": "g6.xlarge",
        "procurement": "reserved",
        "capacity_instances": 4,
        "price_usd_per_h": "0.80",
    }
    span = {"starts_at": "2026-01-01T00:00:00Z", "ends_at": "2027-01-01T00:00:00Z"}
    adapter = {"name": "legal", "digest": "sha256:" + "3" * 64, "source_uri": "s3://w/legal", "rank": 8}
    image = {"engine": "simulator", "version": "1", "digest": "sha256:" + "1" * 64}

    def make(path: str, document: dict[str, Any]) -> str:
        response = admin.post(f"/api/v1/{path}", document, format="json")
        assert response.status_code in (201, 202), response.content
        return str(response.json().get("id", ""))

    make("clusters", {"name": "c1", "region": "eu-1"})
    pool_id = make("pools", pool)
    reservation = make("reservations", {"pool": pool_id, "instances": 1, "price_usd_per_h": "0.50", **span})
    make("models", {"name": "llama"})
    make("models/llama/versions", model_version)
    make("models/llama/versions/1/adapters", adapter)
    image_id = make("engine-images", image)
    machine = admin.get("/api/v1/instance-types").json()["items"][0]["id"]
    rates = {"requests_per_s": 1, "tokens_per_s": 1, "concurrency": 1}
    profile = make("performance-profiles", {"model": "llama", "instance_type": machine, **rates})
    make("deployments", {"name": "chat", "model": "llama", "engine": "simulator"})
    drain = make("drains", {"kind": "pool", "name": "c1/main", "accept_risk": True})
    settings.MERIDIAN_WEBHOOK_LOOPBACK = True
    webhook = make("webhooks", {"url": "http://127.0.0.1:9/"})
    now = timezone.now()
    incident = Incident.objects.create(
        organization=acme.project.organization, kind="region", name="eu-1", state="resolved", severity="error",
        cause="lost", members=[["region", "eu-1"]], evidence_at=now, opened_at=now, since=now, resolved_at=now,
    )  # fmt: skip
    IncidentRecord.objects.create(incident=incident, markdown="# Incident")
    return {
        "incidents": str(incident.pk),
        "webhooks": webhook,
        "drains": drain,
        "engine-images": image_id,
        "performance-profiles": profile,
        "pools": pool_id,
        "reservations": reservation,
    }


@pytest.fixture
def session(administrator: User) -> Iterator[dict[str, str]]:
    """Cookies of the administrator's session. As in Django's own test client, requests close no connection."""
    client = APIClient()
    client.force_login(administrator)
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield {"sessionid": client.cookies["sessionid"].value, "csrftoken": CSRF}
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture(autouse=True)
def _unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.api.throttling.ApiKeyThrottle.allow_request", lambda *_: True)


@pytest.mark.parametrize("part", range(PARTS))
def test_the_api_keeps_to_its_description(
    part: int, described: BaseSchema, known: dict[str, str], session: dict[str, str]
) -> None:
    """Whatever is sent, the answer is one that the description promises. All parts together are the whole API."""
    labels = sorted(made.ok().label for made in described.get_all_operations() if isinstance(made, Ok))
    chosen = described.include(name=labels[part::PARTS])
    asked = []
    for made in get_all_tests(schema=chosen, test_func=keeps_to_it, settings=None, given_kwargs=None):
        assert isinstance(made, Ok), made
        operation, ask = made.ok()
        thought_out = vars(ask)["hypothesis_explicit_examples"]
        thinner = thinned(thought_out, start=labels.index(operation.label))
        vars(ask)["hypothesis_explicit_examples"] = thinner
        ask(known=known, session=session)
        asked.append(operation.label)
    assert sorted(asked) == labels[part::PARTS]


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def keeps_to_it(case: Case[Any], known: dict[str, str], session: dict[str, str]) -> None:
    """One request to one operation."""
    kind = case.path.removeprefix("/api/v1/").partition("/")[0]
    checks = CHECKS
    for name, value in (case.path_parameters or {}).items():
        if value == KNOWN:
            case.path_parameters[name] = known.get(kind, value)
            checks = [
                check for check in CHECKS if check is not negative_data_rejection
            ]  # it knows no such id
    headers = {"X-CSRFToken": CSRF}
    with transaction.atomic():
        response: Any = case.call(headers=headers, cookies=session)
        transaction.set_rollback(True)
    assert response.status_code not in (401, 403)
    case.validate_response(response, checks=checks, headers=headers)
