"""What every endpoint refuses, and how: bad bodies, bad parameters, bad headers."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.db import OperationalError
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.test import APIClient

from apps.accounts import authentication
from apps.api.throttling import ApiKeyThrottle
from apps.api.validation import StrictSerializer
from tests.apps.conftest import Tenant, pointers

pytestmark = pytest.mark.django_db

MODELS = "/api/v1/models"


def post(tenant: Tenant, body: bytes | str, content_type: str = "application/json") -> Any:
    data: Any = body
    return tenant.client.generic("POST", MODELS, data, content_type=content_type)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"name": ', "line 1, column 10"),
        (b'{"name": NaN}', "NaN"),
        (b'{"name": 1e999}', "too large"),
        (b'{"name": "a", "name": "b"}', "twice"),
        (b'{"name": "\xff"}', "UTF-8"),
        (b"[" * 100_000, "nested deeper"),
        (b"[" * 40 + b"]" * 40, "nested deeper"),
        (b'{"name": ' + b"9" * 5000 + b"}", "not acceptable"),
    ],
)
def test_broken_json_is_a_400_that_says_where(acme: Tenant, body: bytes, said: str) -> None:
    """Never a 500, whatever the bytes."""
    response = post(acme, body)
    assert (response.status_code, response["Content-Type"]) == (400, "application/problem+json")
    assert said in response.json()["detail"]


def test_a_body_of_ten_megabytes_is_refused(acme: Tenant) -> None:
    """413, before anything is parsed."""
    response = post(acme, json.dumps({"name": "x" * 10_000_000}))
    assert (response.status_code, response.json()["type"]) == (413, "urn:meridian:problem:body_too_large")


@pytest.mark.parametrize("document", ["a", 3, None, ["name"], True])
def test_a_document_is_an_object(acme: Tenant, document: Any) -> None:
    """Anything else is named as such at the root."""
    response = post(acme, json.dumps(document))
    assert response.status_code == 400
    assert pointers(response) == {""} or pointers(response) == {"/name"}


def test_unknown_fields_and_wrong_types_are_all_named_at_once(acme: Tenant) -> None:
    """One answer lists every wrong field by JSON pointer, with value and remedy; names are escaped."""
    document = {"name": 3, "nmae": "x", "a/b~c": 1}
    response = post(acme, json.dumps(document))
    assert pointers(response) == {"/name", "/nmae", "/a~1b~0c"}
    by_pointer = {error["pointer"]: error for error in response.json()["errors"]}
    assert by_pointer["/name"]["value"] == 3
    assert by_pointer["/nmae"]["remedy"] == "remove it, or correct its name"


@pytest.mark.parametrize("name", ["", "-a", "A", "a" * 64, "a\u0000b", "\ud800", "a b", "a\n"])
def test_names_have_one_form(acme: Tenant, name: str) -> None:
    """What the database would refuse is refused before, at its field."""
    response = post(acme, json.dumps({"name": name}))
    assert (response.status_code, pointers(response)) == (400, {"/name"})


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_only_json_is_taken(acme: Tenant, content_type: str) -> None:
    """Other bodies are 415."""
    assert post(acme, b"name=a", content_type=content_type).status_code == 415


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=%00",
        "cursor=zzz",
        "cursor=W10",
        "nmae=x",
        "dry_run=true",
        "name=%00",
    ],
)
def test_wrong_parameters_are_refused_by_name(acme: Tenant, query: str) -> None:
    """A misspelt filter must not look like an unfiltered list."""
    response = acme.client.get(f"{MODELS}?{query}")
    assert response.status_code == 400
    assert query.split("=", maxsplit=1)[0] in response.json()["detail"]


@pytest.mark.parametrize(
    "path", ["/api/v1/nothing", "/api/v1/models/%00", "/api/v1/models/", "/api/v2/models", "/api"]
)
def test_what_is_not_there_is_a_404_problem(acme: Tenant, path: str) -> None:
    """No HTML and no redirect below /api."""
    response = acme.client.get(path)
    assert (response.status_code, response["Content-Type"]) == (404, "application/problem+json")


def test_a_wrong_method_names_the_right_ones(acme: Tenant) -> None:
    """405 with Allow."""
    response = acme.client.put(MODELS, {}, format="json")
    assert response.status_code == 405
    assert "POST" in response["Allow"]


def test_strangers_are_asked_for_a_key() -> None:
    """401 with a challenge, and nothing about what exists."""
    response = APIClient().get(MODELS)
    assert (response.status_code, response.json()["type"]) == (401, "urn:meridian:problem:unauthenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_only_json_is_offered(acme: Tenant) -> None:
    """406, as a problem document all the same."""
    response = acme.client.get(MODELS, HTTP_ACCEPT="text/html")
    assert (response.status_code, response["Content-Type"]) == (406, "application/problem+json")


def test_pages_join_without_gap_or_repetition(acme: Tenant) -> None:
    """Walking the cursors gives each object once, newest first, though some are added meanwhile."""
    for number in range(7):
        post(acme, json.dumps({"name": f"m{number}"}))
    seen, cursor = [], None
    while True:
        page = acme.client.get(MODELS, {"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [row["name"] for row in page["items"]]
        post(acme, json.dumps({"name": f"later{len(seen)}"}))
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"m{number}" for number in reversed(range(7))]


def test_a_lost_database_is_a_503_to_be_tried_again(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer says that nothing was changed, and when to come back."""

    def lost(secret: str) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(authentication, "api_key_by_secret", lost)
    response = acme.client.get(MODELS)
    assert (response.status_code, response["Retry-After"]) == (503, "2")
    assert "connection refused" not in response.content.decode()


def test_a_defect_shows_no_traceback(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 with one plain sentence."""

    def broken(self: StrictSerializer, data: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(StrictSerializer, "to_internal_value", broken)
    client = acme.client
    client.raise_request_exception = False
    response = client.post(MODELS, {"name": "a"}, format="json")
    assert (response.status_code, response["Content-Type"]) == (500, "application/problem+json")
    assert "secret detail" not in response.content.decode()


def test_too_many_requests_of_one_key_are_told_when_to_return(
    acme: Tenant, rival: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """429 with Retry-After; the neighbour is not concerned."""
    monkeypatch.setattr(ApiKeyThrottle, "THROTTLE_RATES", {"api_key": "2/minute"})
    monkeypatch.setattr(ApiKeyThrottle, "timer", lambda _: 30.0)
    cache.clear()
    statuses = [acme.client.get(MODELS).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert acme.client.get(MODELS)["Retry-After"] == "30"
    assert rival.client.get(MODELS).status_code == 200


def test_calls_at_the_same_moment_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that read the count before either has written it, one gets through where one may."""
    monkeypatch.setattr(ApiKeyThrottle, "THROTTLE_RATES", {"api_key": "1/minute"})
    monkeypatch.setattr(ApiKeyThrottle, "timer", lambda _: 30.0)
    cache.clear()
    both, read = Barrier(2, timeout=5), LocMemCache.get

    def together(*args: Any, **kwargs: Any) -> Any:
        found = read(*args, **kwargs)
        both.wait()
        return found

    monkeypatch.setattr(LocMemCache, "get", together)
    view = SimpleNamespace(actor=SimpleNamespace(kind="api_key", id="one"))

    def call(_: int) -> bool:
        return ApiKeyThrottle().allow_request(Request(HttpRequest()), view)

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(call, range(2))) == [False, True]


def test_a_dead_cache_throttles_nobody(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting is a courtesy; serving is not."""

    def dead(*_: Any, **__: Any) -> bool:
        raise ConnectionError("no cache")

    monkeypatch.setattr(cache, "add", dead)
    assert acme.client.get(MODELS).status_code == 200


def test_probes_answer_without_a_key() -> None:
    """Alive means the process, ready means the database too."""
    assert APIClient().get("/livez").json() == {"status": "alive"}
    assert APIClient().get("/readyz").json() == {"status": "ready"}


def test_if_match_where_there_is_no_etag_changes_nothing(acme: Tenant) -> None:
    """A precondition that cannot hold is not ignored."""
    address = post(acme, json.dumps({"name": "llama"}))["Location"]
    assert acme.client.delete(address, HTTP_IF_MATCH='"1"').status_code == 412
    assert acme.client.delete(address, HTTP_IF_MATCH="*").status_code == 204
