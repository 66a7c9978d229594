"""API keys: made, shown once, limited, revoked; and the limits of the project."""

from datetime import timedelta
from http import HTTPStatus
from typing import Any, ClassVar

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from apps.accounts.models import ApiKey
from apps.accounts.selectors import api_key_get, api_keys
from apps.accounts.services import api_key_change, api_key_create, api_key_revoke, project_change
from apps.api.actors import Right
from apps.api.pagination import paginate
from apps.api.problems import Problem
from apps.console.forms.access import KeyForm, KeyLimitsForm, LimitsForm
from apps.console.presenters.access import key_view, limits_in_words
from apps.console.views.base import ConsolePage


class KeysPage(ConsolePage):
    """The keys of the project; POST makes one and shows it in its own answer, never again."""

    section = "keys"
    rights: ClassVar[dict[str, Right]] = {"GET": "read", "POST": "operate"}

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._page(KeyForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        form = KeyForm(request.POST)
        if not form.is_valid():
            return self._page(form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        days: int | None = form.cleaned_data["expires_in_days"]
        try:
            key, secret = api_key_create(
                actor=self.actor,
                project_id=self.project.pk,
                name=form.cleaned_data["name"],
                scopes=form.cleaned_data["scopes"],
                expires_at=None if days is None else timezone.now() + timedelta(days=days),
                **form.changes(),
            )
        except Problem as problem:
            return self._page(form, status=problem.status, problem=form.show_problem(problem))
        return self._page(KeyForm(), created={"name": key.name, "secret": secret})

    def _page(self, form: KeyForm, *, status: int = HTTPStatus.OK, **context: Any) -> HttpResponse:
        page = paginate(api_keys(actor=self.actor), limit=None, cursor=self.request.GET.get("cursor"))
        keys = [key_view(key, timezone.now()) for key in page.items]
        limits = limits_in_words(self.project)
        return self.page(
            "keys.html", status=status, form=form, page=page, keys=keys, project_limits=limits, **context
        )


class KeyLimits(ConsolePage):
    """What one key may use, and a form to change it."""

    section = "keys"
    rights: ClassVar[dict[str, Right]] = {"GET": "operate", "POST": "operate"}

    def get(self, request: HttpRequest, key_id: str) -> HttpResponse:
        key = api_key_get(actor=self.actor, name=key_id)
        initial = {name: getattr(key, name) for name in KeyLimitsForm.base_fields}
        return self._page(key, KeyLimitsForm(initial=initial))

    def post(self, request: HttpRequest, key_id: str) -> HttpResponse:
        key = api_key_get(actor=self.actor, name=key_id)
        form = KeyLimitsForm(request.POST)
        if not form.is_valid():
            return self._page(key, form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        api_key_change(actor=self.actor, api_key=key, **form.changes())
        messages.success(request, f"The limits of {key.name} are changed; gateways hold them within seconds.")
        return redirect("console:keys")

    def _page(self, key: ApiKey, form: KeyLimitsForm, *, status: int = HTTPStatus.OK) -> HttpResponse:
        return self.page("limits.html", status=status, form=form, of=f"the key {key.name}")


class ProjectLimits(ConsolePage):
    """What all keys of the project may use together, and a form to change it."""

    section = "keys"
    rights: ClassVar[dict[str, Right]] = {"GET": "own", "POST": "own"}

    def get(self, request: HttpRequest) -> HttpResponse:
        initial = {name: getattr(self.project, name) for name in LimitsForm.base_fields}
        return self._page(LimitsForm(initial=initial))

    def post(self, request: HttpRequest) -> HttpResponse:
        form = LimitsForm(request.POST)
        if not form.is_valid():
            return self._page(form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        project_change(actor=self.actor, project=self.project, **form.changes())
        messages.success(request, "The project's limits are changed; gateways hold them within seconds.")
        return redirect("console:keys")

    def _page(self, form: LimitsForm, *, status: int = HTTPStatus.OK) -> HttpResponse:
        of = f"all keys of {self.project.name} together"
        return self.page("limits.html", status=status, form=form, of=of)


class KeyRevoke(ConsolePage):
    """Asks once, then revokes."""

    section = "keys"
    rights: ClassVar[dict[str, Right]] = {"GET": "operate", "POST": "operate"}

    def get(self, request: HttpRequest, key_id: str) -> HttpResponse:
        return self.page("key_revoke.html", key=api_key_get(actor=self.actor, name=key_id))

    def post(self, request: HttpRequest, key_id: str) -> HttpResponse:
        key = api_key_get(actor=self.actor, name=key_id)
        if request.POST.get("confirmed") != "yes":
            return self.page("key_revoke.html", key=key)
        api_key_revoke(actor=self.actor, api_key=key)
        messages.success(request, f"The key {key.name} is revoked.")
        return redirect("console:keys")
