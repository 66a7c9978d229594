"""docs/schemas/deployment.schema.json: what editors complete and check YAML with."""

import json

import pytest
from django.conf import settings
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from apps.deployments.schema import deployment_schema
from tests.apps.conftest import Tenant, bearer
from tests.apps.deployments.test_api import FULL

COMMITTED = settings.BASE_DIR / "docs" / "schemas" / "deployment.schema.json"
CURE = "run: .venv/bin/python manage.py deployment_schema > docs/schemas/deployment.schema.json"


def test_the_committed_schema_is_what_the_serializer_says() -> None:
    """A field that is added reaches the editors in the same commit."""
    assert json.loads(COMMITTED.read_text()) == deployment_schema(), CURE


def test_what_the_api_takes_the_schema_takes() -> None:
    """A document that says everything; an editor underlines what is of another kind."""
    validator = Draft202012Validator(deployment_schema())
    assert list(validator.iter_errors(FULL)) == []
    assert [error.json_path for error in validator.iter_errors(FULL | {"resume": "yes"})] == ["$.resume"]


@pytest.mark.django_db
def test_the_schema_is_served(acme: Tenant) -> None:
    """With the bounds, patterns and choices that the API enforces."""
    schema = bearer(acme.key).get("/api/v1/schemas/deployment.json").json()
    assert schema == deployment_schema()
    assert (schema["additionalProperties"], schema["required"]) == (False, ["name", "model", "engine"])
    properties = schema["properties"]
    assert properties["survivability"]["enum"] == ["none", "zone", "region", "provider"]
    assert properties["autoscaling"]["properties"]["max_replicas"]["minimum"] == 1
    assert properties["name"]["pattern"].endswith("$")
