"""Webhooks: where they may go, how they are signed, and that they arrive at least once."""

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.conf import LazySettings
from django.utils import timezone

from apps.incidents.destinations import NotAllowed, address_chosen, destination_of
from apps.incidents.models import Incident, Webhook, WebhookDelivery
from apps.incidents.services import deliveries_purge, incidents_look, webhooks_deliver
from apps.telemetry.models import Event
from tests.apps.conftest import Tenant, pointers, tenant_make
from tests.apps.incidents.seen import all_sound, died
from tests.support.fleet_world import fleet_world

pytestmark = pytest.mark.django_db

WEBHOOKS = "/api/v1/webhooks"


class Pager:
    """A receiver on this machine. ``answers``: statuses, one a call; 200 afterwards."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                pager.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = pager.answers.pop(0) if pager.answers else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook?team=a"


@pytest.fixture
def pager() -> Iterator[Pager]:
    made = Pager()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(autouse=True)
def _allowed(settings: LazySettings) -> None:
    settings.MERIDIAN_WEBHOOK_DOMAINS = ["pager.example"]
    settings.MERIDIAN_WEBHOOK_LOOPBACK = True


def added(tenant: Tenant, url: str) -> dict[str, Any]:
    answer = tenant.client.post(WEBHOOKS, {"url": url}, format="json", HTTP_IDEMPOTENCY_KEY="once")
    assert answer.status_code == 201, answer.content
    return answer.json()  # type: ignore[no-any-return]


def try_out(tenant: Tenant, webhook: dict[str, Any]) -> dict[str, Any]:
    answer = tenant.client.post(f"{WEBHOOKS}/{webhook['id']}/test")
    assert answer.status_code == 202, answer.content
    return answer.json()  # type: ignore[no-any-return]


def due() -> None:
    WebhookDelivery.objects.filter(state="waiting").update(next_at=timezone.now())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://pager.example.evil.test/hook", "is not among the domains"),
        ("https://evilpager.example/hook", "is not among the domains"),
        ("http://pager.example/hook", "must begin with https"),
        ("https://10.0.0.1/hook", "is not among the domains"),
        ("https://user:secret@pager.example/hook", "no user, password"),
        ("https://pager.example/hook#part", "no user, password or fragment"),
        ("https://pager.example\\@evil.test/", "backslashes"),
        ("ftp://pager.example/hook", "must begin with https"),
        ("https:///hook", "name a host"),
        ("https://pager.example:99999/", "is no URL"),
        ("https://pager.example/" + "a" * 500, "at most 500"),
    ],
)
def test_only_what_the_settings_name_is_reached(acme: Tenant, url: str, why: str) -> None:
    """Refused where it is registered, with what would be right."""
    answer = acme.client.post(WEBHOOKS, {"url": url}, format="json")
    assert (answer.status_code, pointers(answer)) in ((400, {"/url"}), (422, {"/url"}))
    assert why in answer.content.decode() or "500" in why
    assert not Webhook.objects.exists()


def test_addresses_inside_a_network_are_never_connected_to() -> None:
    """Whatever name they have; one that is not allowed among several is enough."""
    outside = destination_of("https://eu.pager.example/x", domains=["pager.example"], loopback=True)
    assert address_chosen(outside, ["93.184.216.34"]) == "93.184.216.34"
    for inside in (
        "10.1.2.3",
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "224.0.0.1",
    ):
        with pytest.raises(NotAllowed, match="not to be reached"):
            address_chosen(outside, ["93.184.216.34", inside])
    loopback = destination_of("http://localhost:9/x", domains=[], loopback=True)
    with pytest.raises(NotAllowed):
        address_chosen(loopback, ["93.184.216.34"])
    with pytest.raises(NotAllowed, match="MERIDIAN_WEBHOOK_LOOPBACK"):
        destination_of("http://localhost:9/x", domains=[], loopback=False)


def test_a_name_that_leads_inside_is_not_followed(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked up at each attempt; the log says why nothing was sent."""
    asked = []

    def inside(host: str, port: int, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    webhook = added(acme, "https://pager.example/hook")
    try_out(acme, webhook)
    monkeypatch.setattr(socket, "getaddrinfo", inside)
    assert webhooks_deliver() == 0
    assert asked == ["pager.example"]
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempts) == ("waiting", 1)
    assert "169.254.169.254, which is not to be reached" in delivery.answer


def test_a_message_is_signed_by_a_secret_that_was_shown_once(acme: Tenant, pager: Pager) -> None:
    """Standard Webhooks: id, timestamp and v1 over both and the body. Nothing stored can sign."""
    webhook = added(acme, pager.url)
    again = added(acme, pager.url)
    assert (again["id"], again["secret"]) == (webhook["id"], None)
    assert acme.client.get(WEBHOOKS).json()["items"][0].keys() == {"id", "url", "created_by", "created_at"}
    key = base64.b64decode(webhook["secret"].removeprefix("whsec_"))
    row = Webhook.objects.get()
    assert len(key) == 32
    assert key not in (bytes(row.salt), bytes(row.secret_sha256))
    delivery = try_out(acme, webhook)
    assert webhooks_deliver() == 1
    ((headers, body),) = pager.calls
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == delivery["id"]
    assert abs(int(headers["webhook-timestamp"]) - timezone.now().timestamp()) < 60
    assert json.loads(body)["type"] == "webhook.test"
    log = acme.client.get(f"{WEBHOOKS}/{webhook['id']}/deliveries").json()["items"]
    assert [(one["state"], one["attempts"], one["answer"]) for one in log] == [("delivered", 1, "200")]


def test_what_fails_is_sent_again_with_the_same_id_until_it_arrives(acme: Tenant, pager: Pager) -> None:
    """Redirects are failures; each attempt waits longer than the one before."""
    try_out(acme, added(acme, pager.url))
    pager.answers = [500, 302, 204]
    waits = []
    for _ in range(3):
        before = timezone.now()
        webhooks_deliver()
        waits.append((WebhookDelivery.objects.get().next_at - before).total_seconds())
        assert webhooks_deliver() == 0, "not before its time"
        due()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempts, delivery.answer) == ("delivered", 3, "204")
    assert len({headers["webhook-id"] for headers, _ in pager.calls}) == 1
    assert len({body for _, body in pager.calls}) == 1
    assert 4 < waits[0] < waits[1]


def test_attempts_end_and_gone_is_gone(acme: Tenant, pager: Pager) -> None:
    """After the last one, or a 410, it is abandoned, and an event says so."""
    try_out(acme, added(acme, pager.url))
    pager.answers = [503] * 20
    for _ in range(12):
        webhooks_deliver()
        due()
    assert (WebhookDelivery.objects.get().state, len(pager.calls)) == ("abandoned", 9)
    assert "after 9 attempts: 503" in Event.objects.get(reason="WebhookAbandoned").message
    try_out(acme, {"id": str(Webhook.objects.get().pk)})
    pager.answers = [410]
    webhooks_deliver()
    assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"abandoned"}
    WebhookDelivery.objects.update(ended_at=timezone.now() - timedelta(days=31))
    assert deliveries_purge(now=timezone.now()) == 2


def test_a_claim_that_nobody_kept_is_delivered_again(acme: Tenant, pager: Pager) -> None:
    """A worker died between sending and noting: at least once."""
    try_out(acme, added(acme, pager.url))
    WebhookDelivery.objects.update(attempts=1, next_at=timezone.now() - timedelta(seconds=1))
    assert webhooks_deliver() == 1


def test_another_secret_key_of_the_installation_signs_nothing(
    acme: Tenant, pager: Pager, settings: LazySettings
) -> None:
    """Its receiver would refuse it; the log says what to do."""
    try_out(acme, added(acme, pager.url))
    settings.SECRET_KEY = "another-" + "y" * 50
    assert webhooks_deliver() == 0
    assert pager.calls == []
    assert "remove it and add it again" in WebhookDelivery.objects.get().answer


def test_only_operators_of_the_organization_have_webhooks(acme: Tenant, rival: Tenant, pager: Pager) -> None:
    """Nobody else lists, tests, reads or removes them."""
    webhook = added(acme, pager.url)
    reader = tenant_make("readers", scopes=("read", "deploy", "inference")).client
    assert reader.get(WEBHOOKS).status_code == 403
    assert reader.post(WEBHOOKS, {"url": pager.url}, format="json").status_code == 403
    path = f"{WEBHOOKS}/{webhook['id']}"
    assert rival.client.get(path).status_code == 404
    assert rival.client.post(f"{path}/test").status_code == 404
    assert rival.client.get(f"{path}/deliveries").status_code == 404
    assert rival.client.delete(path).status_code == 404
    assert acme.client.delete(path).status_code == 204
    assert acme.client.get(path).status_code == 404


def test_the_pager_hears_of_an_incident_when_it_opens_and_when_it_is_over(
    settings: LazySettings, pager: Pager
) -> None:
    """With its id, so that the pager closes what it opened; no deployment is named."""
    world = fleet_world()
    Webhook.objects.create(
        organization=world.organization, url=pager.url, salt=b"s" * 32, secret_sha256=_sha256(b"s" * 32)
    )
    now = timezone.now()
    for ago_s in (20, 12, 4):
        all_sound(world, now - timedelta(seconds=ago_s))
        incidents_look(now=now - timedelta(seconds=ago_s))
    died(world, "us-east", now, heard_ago_s=3)
    incidents_look(now=now)
    for seconds in (10, 71):
        moment = now + timedelta(seconds=seconds)
        all_sound(world, moment)
        incidents_look(now=moment)
    WebhookDelivery.objects.update(next_at=now)
    assert webhooks_deliver() == 3
    told = [json.loads(body) for _, body in pager.calls]
    assert {message["type"] for message in told} == {
        "incident.opened", "incident.updated", "incident.resolved",
    }  # fmt: skip
    assert {message["data"]["id"] for message in told} == {str(Incident.objects.get().pk)}
    (opened,) = [message["data"] for message in told if message["type"] == "incident.opened"]
    assert (opened["title"], opened["severity"], opened["state"]) == ("region us-east4", "error", "open")
    assert opened["detected_after_s"] == 2.0


def _sha256(salt: bytes) -> bytes:
    from apps.incidents.signing import secret_of

    return hashlib.sha256(secret_of(salt).encode()).digest()
