"""Every "no" that the HTTP API can say, as RFC 9457 problem documents.

One table holds all problem types: a stable id, the status, the title and who is at fault. Code raises ``Problem`` with
an id of that table; DRF's own exceptions, database constraints and a lost database are mapped onto it here, so that no
answer is ever a traceback or another error format.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.db.models import ProtectedError
from django.http import Http404
from rest_framework import exceptions as drf
from rest_framework.response import Response

from apps.api.field_errors import FieldError, field_errors
from workloadplane.protocol.refusal import Refusal

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:meridian:problem:"


@dataclass(frozen=True)
class ProblemType:
    """A kind of problem. ``fault``: who must act, the ``client`` or the operators of this ``server``."""

    status: int
    title: str
    fault: Literal["client", "server"] = "client"


PROBLEM_TYPES: Mapping[str, ProblemType] = {
    "broken_json": ProblemType(400, "The body is not acceptable JSON"),
    "invalid_document": ProblemType(400, "Fields of the document are not acceptable"),
    "invalid_parameter": ProblemType(400, "A parameter or header is not acceptable"),
    "project_wanted": ProblemType(400, "Say for which project"),
    "bad_request": ProblemType(400, "The request is not acceptable"),
    "unauthenticated": ProblemType(401, "Authentication is needed"),
    "key_unknown": ProblemType(401, "This API key is not known"),
    "key_expired": ProblemType(401, "This API key has expired"),
    "key_revoked": ProblemType(401, "This API key was revoked"),
    "forbidden": ProblemType(403, "Not allowed"),
    "not_found": ProblemType(404, "Not found"),
    "method_not_allowed": ProblemType(405, "The method is not offered here"),
    "not_acceptable": ProblemType(406, "Only JSON is offered"),
    "name_taken": ProblemType(409, "The name is taken"),
    "already_exists": ProblemType(409, "It already exists"),
    "in_use": ProblemType(409, "It is in use"),
    "conflict": ProblemType(409, "The state does not allow this"),
    "idempotency_key_reused": ProblemType(409, "The Idempotency-Key was used for another request"),
    "request_under_way": ProblemType(409, "The same request is under way"),
    "stale_etag": ProblemType(412, "It has changed since it was read"),
    "body_too_large": ProblemType(413, "The body is too large"),
    "unsupported_media_type": ProblemType(415, "The body must be JSON"),
    "refused": ProblemType(422, "Refused"),
    "too_many_requests": ProblemType(429, "Too many requests"),
    "internal": ProblemType(500, "Something broke here", fault="server"),
    "unavailable": ProblemType(503, "Not available just now", fault="server"),
}


class Problem(Exception):
    """Raised by services and views; the API answers with it, the console and tasks read ``detail`` and ``errors``.

    type_id:  a key of ``PROBLEM_TYPES``, which gives status and title
    detail:   one sentence: what is wrong here, and the remedy
    errors:   the wrong fields
    refusals: what a pure room answered, if it was one of them that said no
    """

    def __init__(
        self,
        type_id: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        refusals: Sequence[Refusal] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.type_id = type_id
        self.type = PROBLEM_TYPES[type_id]
        self.status = self.type.status
        self.detail = detail
        self.errors = tuple(errors)
        self.refusals = tuple(refusals)
        self.headers = dict(headers or {})

    def document(self, *, instance: str | None = None) -> dict[str, Any]:
        """The problem as it is sent."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.type_id,
            "title": self.type.title,
            "status": self.status,
            "detail": self.detail,
        }
        if instance is not None:
            document["instance"] = instance
        if self.errors:
            document["errors"] = [error.document() for error in self.errors]
        if self.refusals:
            document["refusals"] = [msgspec.to_builtins(refusal) for refusal in self.refusals]
        return document


def field_problem(pointer: str, detail: str, *, value: Any = None, remedy: str | None = None) -> Problem:
    """A problem with one field of the document."""
    error = FieldError(pointer=pointer, detail=detail, value=value, remedy=remedy)
    return Problem("invalid_document", f"{pointer}: {detail}", errors=[error])


def parameter_problem(
    parameter: str, detail: str, *, value: Any = None, remedy: str | None = None
) -> Problem:
    """A problem with one query parameter or header."""
    error = FieldError(parameter=parameter, detail=detail, value=value, remedy=remedy)
    return Problem("invalid_parameter", f"{parameter}: {detail}", errors=[error])


def not_found(kind: str, name: object) -> Problem:
    """The one answer for what does not exist and for what belongs to somebody else."""
    return Problem("not_found", f"no {kind} {printed(name)} here")


def printed(value: object) -> str:
    """A value as error messages show it: quoted, and never long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_KEY_COLUMNS = re.compile(r"Key \(([^)]*)\)")


def constraint_problem(error: IntegrityError) -> Problem:
    """What a violated constraint of the database means to whoever sent the document."""
    if isinstance(error, ProtectedError):
        return Problem("in_use", "other objects refer to it; delete those first")
    diagnosis = getattr(error.__cause__, "diag", None)
    sqlstate = getattr(diagnosis, "sqlstate", None)
    constraint = getattr(diagnosis, "constraint_name", None) or "unknown"
    if sqlstate == "23505":
        columns = _KEY_COLUMNS.search(getattr(diagnosis, "message_detail", "") or "")
        names = [name.removesuffix("_id") for name in columns.group(1).split(", ")] if columns else []
        if names and names[-1] == "name":
            taken = FieldError(pointer="/name", detail="is taken", remedy="choose another name")
            return Problem("name_taken", "the name is taken; choose another", errors=[taken])
        same = ", ".join(name.replace("_", " ") for name in names) or "key"
        return Problem("already_exists", f"one with the same {same} already exists (constraint {constraint})")
    if sqlstate == "23503":
        return Problem("in_use", f"other objects refer to it (constraint {constraint}); delete those first")
    return Problem("invalid_document", f"the database refused it: constraint {constraint} must hold")


def database_unavailable() -> Problem:
    """PostgreSQL does not answer: nothing was changed, the same request may be sent again."""
    return Problem(
        "unavailable",
        "the database does not answer; nothing was changed, send it again",
        headers={"Retry-After": "2"},
    )


@contextmanager
def constraints_as_problems() -> Iterator[None]:
    """Turn violated constraints into problems. Wrap a transaction in it, never the other way round."""
    try:
        yield
    except IntegrityError as error:
        raise constraint_problem(error) from error


def problem_of(error: BaseException, data: Any = None) -> Problem | None:
    """The problem that an exception means, or None if it is a defect of ours. ``data`` is the request's document."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, drf.APIException):
        return _problem_of_drf(error, data)
    if isinstance(error, Http404):
        return Problem("not_found", "there is nothing at this address")
    if isinstance(error, PermissionDenied):
        return Problem("forbidden", str(error) or "this is not allowed")
    if isinstance(error, RequestDataTooBig):
        return Problem("body_too_large", "the body is larger than 1 MiB; send less")
    if isinstance(error, SuspiciousOperation):
        return Problem("bad_request", "the request is not well-formed")
    if isinstance(error, IntegrityError):
        return constraint_problem(error)
    if isinstance(error, DataError):
        return Problem("invalid_document", "a value is outside of what the database can hold")
    if isinstance(error, OperationalError | InterfaceError):
        return database_unavailable()
    return None


def _problem_of_drf(error: drf.APIException, data: Any) -> Problem:
    if isinstance(error, drf.ValidationError):
        errors = field_errors(error.detail, data)
        return Problem("invalid_document", "; ".join(_line(e) for e in errors[:3]), errors=errors)
    if isinstance(error, drf.ParseError):
        return Problem("broken_json", str(error.detail))
    if isinstance(error, drf.Throttled):
        wait_s = max(1, int(getattr(error, "wait", None) or 1))
        detail = f"this key or user has sent too many requests; wait {wait_s} s"
        return Problem("too_many_requests", detail, headers={"Retry-After": str(wait_s)})
    simple = {
        drf.NotAuthenticated: "unauthenticated",
        drf.AuthenticationFailed: "unauthenticated",
        drf.PermissionDenied: "forbidden",
        drf.NotFound: "not_found",
        drf.MethodNotAllowed: "method_not_allowed",
        drf.NotAcceptable: "not_acceptable",
        drf.UnsupportedMediaType: "unsupported_media_type",
    }
    for kind, type_id in simple.items():
        if isinstance(error, kind):
            return Problem(type_id, str(error.detail))
    return Problem("bad_request", str(error.detail))


def _line(error: FieldError) -> str:
    where = error.pointer or error.parameter or "the document"
    return f"{where}: {error.detail}"


def problem_response(problem: Problem, *, instance: str | None = None) -> Response:
    """The problem as DRF sends it."""
    return Response(
        problem.document(instance=instance),
        status=problem.status,
        headers=problem.headers,
        content_type=CONTENT_TYPE,
    )


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's hook. Defects return None: Django then logs them and answers through ``handler500``."""
    request = context["request"]
    problem = problem_of(error, getattr(request, "_full_data", None))
    if problem is None:
        return None
    if problem.status == 401:
        problem.headers.setdefault("WWW-Authenticate", 'Bearer realm="meridian"')
    if isinstance(error, drf.MethodNotAllowed):
        problem.headers["Allow"] = ", ".join(context["view"].allowed_methods)
    return problem_response(problem, instance=request.path)
