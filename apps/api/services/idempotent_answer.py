"""``Idempotency-Key``: the same POST sent again is answered again, not done again.

The claim is a row inserted in the transaction that does the work, so claim, effect and stored answer commit together
or not at all. A twin that comes meanwhile waits on the unique index until the first has ended, and finds its answer.
Only answers that did something (2xx) are kept: a refused request changed nothing, and may be judged anew.
"""

from collections.abc import Mapping
from typing import Any

from django.db import DatabaseError, connection

from apps.api.models import IdempotentAnswer
from apps.api.problems import Problem

WAIT_FOR_TWIN_S = 5


def answer_claim(*, owner: str, key: str, path: str, request_sha256: str) -> IdempotentAnswer:
    """The stored answer if this request was answered before (its ``status`` is set), else a claim to fill in.

    Call inside a transaction. Raises Problem ``idempotency_key_reused`` (409) if the key was used for another request,
    ``request_under_way`` (409, with Retry-After) if a twin is still at work after 5 s.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{WAIT_FOR_TWIN_S}s'")
            cursor.execute(
                "INSERT INTO api_idempotentanswer (owner, key, path, request_sha256, headers)"
                " VALUES (%s, %s, %s, %s, '{}') ON CONFLICT (owner, key) DO NOTHING",
                [owner, key, path, request_sha256],
            )
            cursor.execute("SET LOCAL lock_timeout TO DEFAULT")
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) != "55P03":  # lock_not_available
            raise
        raise Problem(
            "request_under_way",
            "a request with this Idempotency-Key is still being worked on; send it again in a second",
            headers={"Retry-After": "1"},
        ) from error
    answer = IdempotentAnswer.objects.get(owner=owner, key=key)
    if (answer.path, answer.request_sha256) != (path, request_sha256):
        raise Problem(
            "idempotency_key_reused",
            "this Idempotency-Key was used for another request; use a new key for a new request",
        )
    return answer


def answer_store(
    *, answer: IdempotentAnswer, status: int, body: Mapping[str, Any] | None, headers: Mapping[str, str]
) -> None:
    """Keep what was answered. ``body`` must already be without secrets."""
    answer.status = status
    answer.body = body
    answer.headers = dict(headers)
    answer.save(update_fields=["status", "body", "headers"])
