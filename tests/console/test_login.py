"""The door of the console."""

import pytest
from django.core.cache import cache
from django.test import Client
from pytest_django import Settings

from apps.console import login_guard
from tests.console.world import PASSWORD, World

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_counts() -> None:
    cache.clear()
    login_guard._fallback.clear()


def log_in(client: Client, username: str, password: str, **more: str):
    return client.post("/login", {"username": username, "password": password, **more})


def test_nobody_sees_anything_without_logging_in(client: Client, world: World) -> None:
    """Every page sends strangers to the door, and back to where they wanted to go."""
    response = client.get("/deployments/chat")
    assert response.status_code == 302
    assert response["Location"] == "/login?next=/deployments/chat"


def test_a_polling_part_leaves_the_page_when_the_session_has_ended(client: Client, world: World) -> None:
    """The login form never appears inside a page."""
    response = client.get("/overview/live", headers={"HX-Request": "true"})
    assert (response.status_code, response["HX-Redirect"]) == (204, "/login")


def test_wrong_name_and_wrong_password_look_alike(client: Client, world: World) -> None:
    """Nobody learns from the answer which users exist."""
    first = log_in(client, "admin", "wrong")
    second = log_in(client, "nobody", "wrong")
    assert first.status_code == second.status_code == 422
    assert b"User name or password is wrong." in first.content
    assert b"User name or password is wrong." in second.content


def test_guessing_is_slowed_down(client: Client, world: World) -> None:
    """After five failures even the right password is refused for a while; another name still works."""
    for _ in range(5):
        log_in(client, "admin", "wrong")
    refused = log_in(client, "admin", PASSWORD)
    assert (refused.status_code, refused["Retry-After"]) == (429, "300")
    assert log_in(client, "viewer", PASSWORD).status_code == 302


def test_behind_a_proxy_people_do_not_lock_each_other_out(
    client: Client, world: World, settings: Settings
) -> None:
    """Failures count for the address that the trusted proxy saw, whatever a client claims before it."""
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

    def tries(password: str, hops: str) -> int:
        form = {"username": "admin", "password": password}
        return client.post("/login", form, headers={"X-Forwarded-For": hops}).status_code

    for number in range(5):
        tries("wrong", f"10.0.0.{number}, 203.0.113.9")
    assert tries(PASSWORD, "192.0.2.1, 203.0.113.9") == 429
    assert tries(PASSWORD, "203.0.113.9, 198.51.100.7") == 302


def test_a_lost_cache_opens_no_door(client: Client, world: World, settings: Settings) -> None:
    """With the shared cache away people still log in, and guessing is still slowed down."""
    nobody_listens = "redis://127.0.0.1:1/0"
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": nobody_listens}
    }
    for _ in range(5):
        assert log_in(client, "admin", "wrong").status_code == 422
    assert log_in(client, "admin", PASSWORD).status_code == 429
    assert log_in(client, "viewer", PASSWORD).status_code == 302


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_the_door_leads_nowhere_else(client: Client, world: World, target: str) -> None:
    """``next`` can't send anybody to another site."""
    assert log_in(client, "admin", PASSWORD, next=target)["Location"] == "/"


def test_logging_out_needs_a_form(client: Client, world: World) -> None:
    """A link or an image can't log anybody out."""
    client.force_login(world.admin)
    assert client.get("/logout").status_code == 405
    assert client.post("/logout").status_code == 302
    assert client.get("/").status_code == 302
