"""The whole API against its own description: generated requests, good and bad, with a fixed seed.

Nothing may end in a 5xx, in a status, a media type or a body that the description does not know, or be accepted
although the description forbids it. A savepoint around each request keeps the world as it was.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.cache import cache
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case, HookContext
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.apps.conftest import Tenant

pytestmark = [pytest.mark.slow, pytest.mark.django_db, pytest.mark.usefixtures("world")]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
EXAMPLES = 12

described = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", get_wsgi_application())


@described.hook
def map_query(context: HookContext, query: dict[str, Any]) -> dict[str, Any]:
    """A key is bound to its project: naming random other ones would end every request as a 404."""
    return {name: value for name, value in (query or {}).items() if name not in ("project", "organization")}


@described.hook
def map_path_parameters(context: HookContext, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Half of all addresses name something that exists."""
    known = {"name": "acme", "username": "root", "version": "1"}
    return {
        name: known.get(name, value) if len(str(value)) % 2 else value
        for name, value in (path_parameters or {}).items()
    }


@pytest.fixture
def caller(acme: Tenant) -> Iterator[dict[str, str]]:
    """Headers of a key that may do everything. As in Django's own test client, requests close no connection."""
    cache.clear()
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield {"Authorization": f"Bearer {acme.key}"}
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@described.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_api_keeps_to_its_description(case: Case, caller: dict[str, str]) -> None:
    """Whatever is sent, the answer is one that the description promises."""
    with transaction.atomic():
        response: Any = case.call(headers=caller)
        transaction.set_rollback(True)
    case.validate_response(response, checks=CHECKS, headers=caller)
