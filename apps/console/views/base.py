"""What every page derives from: who looks, at which project, and how a problem is shown."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render, resolve_url
from django.utils.cache import add_never_cache_headers
from django.views import View

from apps.accounts.models import Project, User
from apps.accounts.selectors import actor_of_user, projects
from apps.api.actors import Actor, Right
from apps.api.problems import Problem

#: Where the session keeps the id of the project that the reader chose.
SESSION_PROJECT = "project_id"
MAX_PROJECTS_SHOWN = 100


@dataclass(frozen=True)
class Frame:
    """What surrounds every page: the project looked at, and those that could be."""

    project: Project | None
    projects: tuple[Project, ...]


class ConsolePage(View):
    """A page for people who are logged in.

    section:        the entry of the navigation that is marked
    rights:         the right that each method needs; a method that is not named is refused
    """

    section: ClassVar[str]
    rights: ClassVar[dict[str, Right]] = {"GET": "read"}

    actor: Actor
    frame: Frame

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not isinstance(request.user, User):
            return self._to_login(request)
        try:
            self._enter(request, request.user)
            return super().dispatch(request, *args, **kwargs)
        except Problem as problem:
            return self.problem_page(problem)

    def _to_login(self, request: HttpRequest) -> HttpResponse:
        """A polling part must not show the login form inside the page: htmx is told to leave the page."""
        if request.headers.get("HX-Request") == "true":
            return HttpResponse(
                status=HTTPStatus.NO_CONTENT, headers={"HX-Redirect": resolve_url("console:login")}
            )
        return redirect_to_login(request.get_full_path(), resolve_url("console:login"))

    def _enter(self, request: HttpRequest, user: User) -> None:
        self.actor = Actor(kind="user", id=str(user.pk), name=user.get_username(), right=None)
        self.frame = Frame(project=None, projects=())
        values = [*request.GET.values(), *request.POST.values(), *self.kwargs.values()]
        if any("\x00" in str(value) for value in values):
            raise Problem("bad_request", "The character NUL is no part of any name.")
        self.actor = self._actor(request, user)
        self.frame = self._frame()
        if self.frame.project is not None:
            request.session[SESSION_PROJECT] = str(self.frame.project.pk)
        right = self.rights.get("GET" if request.method == "HEAD" else request.method or "")
        if right is not None and self.frame.project is not None and not self.actor.holds(right):
            raise Problem("forbidden", f"This needs the right '{right}', which you do not hold here.")
        if self.frame.project is None:
            raise Problem("project_wanted", "You can reach no project yet: ask an owner to add you to one.")

    def _actor(self, request: HttpRequest, user: User) -> Actor:
        """For the project of the form or address, else the one chosen before, else the first that can be reached."""
        wanted = request.POST.get("project") or request.GET.get("project")
        if wanted:
            return actor_of_user(user, project=wanted)
        held = request.session.get(SESSION_PROJECT)
        if held is not None:
            try:
                return actor_of_user(user, project=held)
            except Problem:  # deleted, or no longer ours
                del request.session[SESSION_PROJECT]
        actor = actor_of_user(user)
        if actor.project_id is not None:
            return actor
        first = projects(actor=actor).order_by("organization__created_at", "created_at").first()
        return actor if first is None else actor_of_user(user, project=str(first.pk))

    def _frame(self) -> Frame:
        reachable = tuple(
            projects(actor=self.actor).order_by("organization__name", "name")[:MAX_PROJECTS_SHOWN]
        )
        chosen = next((p for p in reachable if p.pk == self.actor.project_id), None)
        if chosen is None and self.actor.project_id is not None:
            chosen = projects(actor=self.actor).filter(pk=self.actor.project_id).first()
        return Frame(project=chosen, projects=reachable)

    @property
    def project(self) -> Project:
        """The project looked at."""
        if self.frame.project is None:
            raise Problem("project_wanted", "You can reach no project yet: ask an owner to add you to one.")
        return self.frame.project

    def page(self, template: str, *, status: int = HTTPStatus.OK, **context: Any) -> HttpResponse:
        """Render a page or, where the template is one, a part of a page."""
        shared = {"frame": self.frame, "section": self.section, "actor": self.actor}
        response = render(self.request, f"console/{template}", {**shared, **context}, status=status)
        add_never_cache_headers(response)  # pages show one tenant's state, and now and then a secret
        return response

    def problem_page(self, problem: Problem) -> HttpResponse:
        """The "no" as a page of its own; inside a polling part as that part."""
        part = self.request.headers.get("HX-Request") == "true"
        return self.page(
            "problem.html",
            status=HTTPStatus.OK if part else problem.status,  # htmx swaps only what succeeded
            problem=problem,
            base="console/part.html" if part else "console/page.html",
        )
