"""Django's own error pages: problem documents under the APIs, the console's pages elsewhere. And probes."""

import sys
from typing import Any

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from django.views.decorators.http import require_safe

from apps.api.problems import CONTENT_TYPE, Problem, problem_of

_API_PATHS = ("/api/", "/agent/")


def _for_api(request: HttpRequest) -> bool:
    return request.path.startswith(_API_PATHS)


def _answer(request: HttpRequest, problem: Problem) -> HttpResponse:
    return JsonResponse(
        problem.document(instance=request.path),
        status=problem.status,
        headers=problem.headers,
        content_type=CONTENT_TYPE,
    )


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _for_api(request):
        return defaults.bad_request(request, exception)
    return _answer(request, problem_of(exception) or Problem("bad_request", "the request is not well-formed"))


def handler403(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _for_api(request):
        return defaults.permission_denied(request, exception)
    return _answer(request, Problem("forbidden", "this is not allowed"))


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _for_api(request):
        return defaults.page_not_found(request, exception)
    return _answer(request, Problem("not_found", "there is nothing at this address"))


def handler500(request: HttpRequest) -> HttpResponse:
    """The log has the traceback; the answer never does."""
    error = sys.exc_info()[1]
    problem = problem_of(error) if error is not None else None
    if not _for_api(request):
        return defaults.server_error(request)
    return _answer(request, problem or Problem("internal", "a defect on our side; it was logged"))


@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    """This process answers."""
    return JsonResponse({"status": "alive"})


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """This process can serve: PostgreSQL answers. The broker is not asked: without it only speed is lost."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return _answer(
            request, Problem("unavailable", "the database does not answer", headers={"Retry-After": "2"})
        )
    return JsonResponse({"status": "ready"})


def nothing_here(request: HttpRequest, *_: Any) -> HttpResponse:
    """Whatever is not routed under the APIs, so that a missing slash is a 404 and never a redirect."""
    return _answer(request, Problem("not_found", "there is nothing at this address"))
