"""Wraps a view's ``post`` so that ``Idempotency-Key`` is honoured on every POST of the API."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.db import transaction
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.actors import Actor
from apps.api.problems import constraints_as_problems, parameter_problem
from apps.api.services import answer_claim, answer_store

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS = ("Location", "ETag")
REPLAYED_NOTE = "shown once, when it was created; make a new one if it was lost"


class SecretResponse(Response):
    """An answer that shows a secret once. ``secret_fields`` are null when the answer is stored or replayed."""

    def __init__(self, data: dict[str, Any], *, secret_fields: Iterable[str], **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        self.secret_fields = tuple(secret_fields)


def idempotent(post: Callable[..., Response]) -> Callable[..., Response]:
    """``post``, done once for each key and request. A dry run or a question writes nothing, so it needs no key."""

    @wraps(post)
    def run(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get(HEADER)
        if key is None or view.dry_run or view.asking:
            return post(view, request, *args, **kwargs)
        if not _KEY.fullmatch(key):
            raise parameter_problem(HEADER, "must be 1 to 255 printable ASCII characters without blanks")
        with constraints_as_problems(), transaction.atomic():
            answer = answer_claim(
                owner=_owner(view.actor),
                key=key,
                path=request.path[:512],
                request_sha256=_fingerprint(request, view.raw_body),
            )
            if answer.status is not None:
                headers = {**answer.headers, "Idempotent-Replayed": "true"}
                return Response(answer.body, status=answer.status, headers=headers)
            response = post(view, request, *args, **kwargs)
            answer_store(
                answer=answer,
                status=response.status_code,
                body=_without_secrets(response),
                headers={name: response[name] for name in _KEPT_HEADERS if name in response},
            )
            return response

    return run


def _owner(actor: Actor) -> str:
    """Whoever sends the same key twice. For which project is part of the address, and so of the fingerprint."""
    return f"{'key' if actor.kind == 'api_key' else actor.kind}:{actor.id}"


def _fingerprint(request: Request, body: bytes) -> str:
    head = f"{request.method} {request.get_full_path()}\n".encode("utf-8", "surrogatepass")
    return hashlib.sha256(head + body).hexdigest()


def _without_secrets(response: Response) -> Any:
    body = json.loads(JSONRenderer().render(response.data)) if response.data is not None else None
    if isinstance(response, SecretResponse) and isinstance(body, dict):
        body.update(dict.fromkeys(response.secret_fields))
        body["note"] = REPLAYED_NOTE
    return body
