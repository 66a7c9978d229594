"""A small world for tests of the control plane: two organizations, and clients for both."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from apps.accounts.models import Project, Role, User
from apps.accounts.services import (
    api_key_create,
    member_add,
    organization_create,
    project_create,
    user_create,
)
from apps.api.actors import system_actor


@dataclass(frozen=True)
class Tenant:
    """One organization with one project and a key that may do everything a key may."""

    project: Project
    key: str

    @property
    def client(self) -> APIClient:
        return bearer(self.key)


def bearer(key: str) -> APIClient:
    """A client that sends an API key."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client


def tenant_make(name: str, *, scopes: tuple[str, ...] = ("inference", "read", "deploy", "operate")) -> Tenant:
    founder = system_actor("tests")
    organization = organization_create(actor=founder, name=name)
    project = project_create(actor=founder, organization_id=organization.pk, name="default")
    actor = system_actor("tests", organization_id=organization.pk, project_id=project.pk)
    _, key = api_key_create(actor=actor, project_id=project.pk, name="all", scopes=scopes)
    return Tenant(project=project, key=key)


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    """Throttles count in the cache."""
    cache.clear()
    yield


@pytest.fixture
def acme(db: None) -> Tenant:
    """The tenant under test."""
    return tenant_make("acme")


@pytest.fixture
def rival(db: None) -> Tenant:
    """Another tenant, of whom nothing may be seen."""
    return tenant_make("rival")


@pytest.fixture
def administrator(db: None) -> User:
    """Who may write what all organizations share."""
    return user_create(actor=system_actor("tests"), username="root", is_superuser=True)[0]


@pytest.fixture
def admin(administrator: User) -> APIClient:
    """The administrator's session."""
    client = APIClient()
    client.force_login(administrator)
    return client


@pytest.fixture
def person(acme: Tenant) -> Callable[..., APIClient]:
    """Makes a session of a member of ``acme``."""

    def make(username: str, role: Role) -> APIClient:
        user, _ = user_create(actor=system_actor("tests"), username=username)
        member_add(
            actor=system_actor("tests"),
            organization_id=acme.project.organization_id,
            username=username,
            role=role,
        )
        client = APIClient()
        client.force_login(user)
        return client

    return make


def pointers(response: Any) -> set[str]:
    """The JSON pointers of all wrong fields that an answer names."""
    return {error.get("pointer") for error in response.json().get("errors", [])}


@pytest.fixture
def world(admin: APIClient) -> None:
    """Shared facts: one provider, region, zone, GPU type and instance type."""
    for path, document in (
        ("providers", {"name": "aws", "kind": "aws"}),
        (
            "regions",
            {"name": "eu-1", "provider": "aws", "jurisdiction": "eu", "latitude": 53.3, "longitude": -6.2},
        ),
        ("failure-domains", {"kind": "zone", "name": "eu-1a"}),
        ("gpu-types", {"name": "L4", "vendor": "nvidia", "memory_gib": 24, "precisions": ["bf16", "fp8"]}),
        ("instance-types", {"name": "g6.xlarge", "provider": "aws", "gpu_type": "L4", "gpus": 1}),
    ):
        response = admin.post(f"/api/v1/{path}", document, format="json")
        assert response.status_code == 201, response.content
