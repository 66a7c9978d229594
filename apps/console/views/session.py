"""Logging in and out, and the choice of a project."""

from http import HTTPStatus

from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from apps.console.login_guard import (
    WINDOW_S,
    Attempt,
    can_try,
    client_address,
    failure_record,
    success_record,
)
from apps.console.views.base import ConsolePage

MAX_INPUT_CHARACTERS = 254


@method_decorator([never_cache, sensitive_post_parameters("password")], name="dispatch")
class LoginPage(View):
    """The door. It says the same for a wrong name and a wrong password."""

    def get(self, request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated:
            return redirect(_target(request, request.GET.get("next", "")))
        return render(request, "console/login.html", {"next": request.GET.get("next", "")})

    def post(self, request: HttpRequest) -> HttpResponse:
        username = request.POST.get("username", "")[:MAX_INPUT_CHARACTERS].replace("\x00", "")
        password = request.POST.get("password", "")[:4096]
        attempt = Attempt(username=username, address=client_address(request))
        if not can_try(attempt):
            detail = f"After {WINDOW_S // 60} minutes without another try it works again."
            return self._refused(
                request, username, HTTPStatus.TOO_MANY_REQUESTS, "Too many failed logins", detail
            )
        user = authenticate(request, username=username, password=password)
        if user is None:
            failure_record(attempt)
            detail = "User name or password is wrong."
            return self._refused(request, username, HTTPStatus.UNPROCESSABLE_ENTITY, "Not logged in", detail)
        success_record(attempt)
        login(request, user)
        return redirect(_target(request, request.POST.get("next", "")))

    def _refused(
        self, request: HttpRequest, username: str, status: int, title: str, detail: str
    ) -> HttpResponse:
        context = {
            "failure": {"title": title, "detail": detail},
            "username": username,
            "next": request.POST.get("next", ""),
        }
        response = render(request, "console/login.html", context, status=status)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            response["Retry-After"] = str(WINDOW_S)
        return response


class Logout(View):
    """Ends the session; POST only, so that no link or image can do it."""

    http_method_names = ("post",)

    def post(self, request: HttpRequest) -> HttpResponse:
        logout(request)
        return redirect("console:login")


class ProjectChoice(ConsolePage):
    """Keeps ``?project=`` in the session (the base class does) and goes to the overview."""

    section = "overview"

    def get(self, request: HttpRequest) -> HttpResponse:
        return redirect("console:overview")


def _target(request: HttpRequest, wanted: str) -> str:
    """Only addresses of this console are followed after logging in."""
    safe = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if safe else "console:overview"
