"""docs/openapi.yaml."""

from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.core.management import call_command
from rest_framework.test import APIClient

COMMITTED = settings.BASE_DIR / "docs" / "openapi.yaml"
CURE = "run: .venv/bin/python manage.py spectacular --settings controlplane.settings.test --file docs/openapi.yaml"


def test_the_committed_description_is_what_the_code_says(tmp_path: Path) -> None:
    """Clients read the file; it must not lag behind, and it must be valid OpenAPI 3.1 without a warning."""
    made = tmp_path / "openapi.yaml"
    call_command("spectacular", file=str(made), validate=True, fail_on_warn=True)
    assert made.read_text() == COMMITTED.read_text(), CURE


def test_every_operation_can_answer_with_a_problem() -> None:
    """And says which right it needs; every POST takes an Idempotency-Key; every operation has a name of its own."""
    document = yaml.safe_load(COMMITTED.read_text())
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not path.startswith("/api/v1/openapi")
    ]
    assert len(operations) > 60
    for path, method, operation in operations:
        where = f"{method} {path}"
        assert "application/problem+json" in operation["responses"]["default"]["content"], where
        assert operation["x-right"], where
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert method != "post" or "Idempotency-Key" in names, where
    identifiers = [operation["operationId"] for _, _, operation in operations]
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.parametrize(
    ("suffix", "media_type"),
    [("yaml", "application/vnd.oai.openapi"), ("json", "application/vnd.oai.openapi+json")],
)
def test_the_description_is_served_to_anyone(suffix: str, media_type: str) -> None:
    """Without a key, in both spellings."""
    response = APIClient().get(f"/api/v1/openapi.{suffix}")
    assert response.status_code == 200
    assert response["Content-Type"].startswith(media_type)
    assert yaml.safe_load(response.content)["openapi"].startswith("3.1")
