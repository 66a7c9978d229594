"""``Idempotency-Key``."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from apps.api.models import IdempotentAnswer
from apps.api.tasks import idempotent_answers_purge
from apps.catalog.models import Model
from tests.apps.conftest import Tenant, tenant_make

MODELS = "/api/v1/models"


def post(tenant: Tenant, name: str, key: str) -> Any:
    return tenant.client.post(MODELS, {"name": name}, format="json", HTTP_IDEMPOTENCY_KEY=key)


@pytest.mark.django_db
def test_the_same_request_is_answered_again_and_done_once(acme: Tenant) -> None:
    """Status, body and Location are those of the first time."""
    first, second = post(acme, "llama", "k1"), post(acme, "llama", "k1")
    assert (second.status_code, second.json(), second["Location"]) == (201, first.json(), first["Location"])
    assert second["Idempotent-Replayed"] == "true"
    assert Model.objects.count() == 1


@pytest.mark.django_db
def test_a_key_belongs_to_one_request_of_one_owner(acme: Tenant, rival: Tenant) -> None:
    """Another body is 409; another tenant may use the same key."""
    post(acme, "llama", "k1")
    reused = post(acme, "qwen", "k1")
    assert (reused.status_code, reused.json()["type"]) == (409, "urn:meridian:problem:idempotency_key_reused")
    assert post(rival, "qwen", "k1").status_code == 201


@pytest.mark.django_db
def test_a_refused_request_leaves_its_key_unused(acme: Tenant) -> None:
    """It changed nothing, so the corrected request may go under the same key."""
    assert post(acme, "NOT A NAME", "k1").status_code == 400
    assert post(acme, "llama", "k1").status_code == 201


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "schlüssel"])
def test_a_malformed_key_is_refused(acme: Tenant, key: str) -> None:
    """It is answered by name, not ignored."""
    response = post(acme, "llama", key)
    assert (response.status_code, response.json()["errors"][0]["parameter"]) == (400, "Idempotency-Key")


@pytest.mark.django_db(transaction=True)
def test_of_two_equal_requests_at_once_one_is_done(django_db_serialized_rollback: None) -> None:
    """The twin waits for the first and gets its answer."""
    acme = tenant_make("acme")
    barrier, answers = threading.Barrier(2), []

    def send() -> None:
        try:
            barrier.wait()
            answers.append(post(acme, "llama", "twin"))
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert Model.objects.count() == 1


@pytest.mark.django_db
def test_answers_are_forgotten_after_a_day_however_often_that_is_asked(acme: Tenant) -> None:
    """The task may run twice or late; younger answers stay."""
    post(acme, "old", "k-old")
    IdempotentAnswer.objects.update(created_at=timezone.now() - timedelta(hours=25))
    post(acme, "young", "k-young")
    idempotent_answers_purge()
    idempotent_answers_purge()
    assert list(IdempotentAnswer.objects.values_list("key", flat=True)) == ["k-young"]
