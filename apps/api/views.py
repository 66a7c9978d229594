"""What every view of the REST API derives from: who acts, for which tenant, with which bounds."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, Literal, cast

from django.db.models import QuerySet
from django.http import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from apps.accounts.models import ApiKey, User
from apps.accounts.selectors import (
    actor_of_api_key,
    actor_of_user,
    organization_wanted,
    project_wanted,
)
from apps.api.actors import Actor, Right
from apps.api.idempotency import idempotent
from apps.api.pagination import NEWEST_FIRST, paginate
from apps.api.problems import Problem, not_found, parameter_problem
from apps.api.throttling import SolveThrottle

#: Method -> right needed. ``none``: any caller who is known, also a key for inference alone.
Rights = Mapping[str, Right | Literal["none"]]

PAGING_PARAMETERS = frozenset({"limit", "cursor"})
SHARED_PARAMETERS = frozenset({"project", "organization", "format"})


class Tenancy(Enum):
    """Whose objects a view shows: one project's, one organization's, those shared by all, or the caller's own."""

    PROJECT = "project"
    ORGANIZATION = "organization"
    SHARED = "shared"
    CALLER = "caller"


class MeridianView(APIView):
    """Base of all views under ``/api/v1``.

    rights:       method -> right needed (``apps.api.actors.RIGHTS``); a method that is not named is refused
    tenancy:      whose objects these are; the view refuses early if the caller has not said for which project
    filters:      serializer of the query parameters that GET takes
    paged:        GET takes ``limit`` and ``cursor``
    dry_runnable: writing methods take ``dry_run=true``
    etagged:      PUT, PATCH and DELETE honour ``If-Match``; where there is no ETag, any is stale
    post_etagged: POST honours it too: it changes what is there
    asking:       POST asks for a plan and writes nothing: no answer is kept for an ``Idempotency-Key``

    What has a plan made, a question or a dry run, has a smaller budget of calls besides.

    Handlers use ``self.actor``, ``self.document()``, ``self.page()``, ``self.created()`` and ``self.if_match``.
    """

    rights: ClassVar[Rights]
    tenancy: ClassVar[Tenancy]
    filters: ClassVar[type[serializers.Serializer[Any]] | None] = None
    paged: ClassVar[bool] = False
    dry_runnable: ClassVar[bool] = False
    etagged: ClassVar[bool] = True
    post_etagged: ClassVar[bool] = False
    asking: ClassVar[bool] = False

    actor: Actor
    dry_run: bool
    raw_body: bytes
    filter_values: Mapping[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        post: Callable[..., Response] | None = cls.__dict__.get("post")
        if post is not None:
            cls.post = idempotent(post)  # type: ignore[attr-defined]

    def perform_authentication(self, request: Request) -> None:
        """Resolve who acts, before permissions and throttles ask.

        The body is read first, whole and bounded: the check of a session's CSRF token parses it from its stream, and
        afterwards nobody could read the bytes that an ``Idempotency-Key`` stands for.
        """
        self.raw_body = request._request.body
        super().perform_authentication(request)
        self.actor = cast(Actor, self._actor(request))  # None for strangers: the permission refuses them

    def get_throttles(self) -> list[BaseThrottle]:
        solves = self.asking or (self.dry_runnable and _parameter(self.request, "dry_run") == "true")
        return [*super().get_throttles(), *([SolveThrottle()] if solves else [])]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        for name, value in kwargs.items():
            if isinstance(value, str) and "\x00" in value:
                raise not_found(name, value)
        self._check_parameters(request)
        self.dry_run = self._flag(request, "dry_run")
        if (
            not self.etagged
            and request.method not in ("GET", "HEAD", "POST")
            and self.if_match not in (None, "*")
        ):
            raise Problem("stale_etag", "what is here has no ETag; repeat the request without If-Match")
        if self.tenancy is Tenancy.PROJECT:
            project_wanted(self.actor)
        elif self.tenancy is Tenancy.ORGANIZATION:
            organization_wanted(self.actor)

    def _actor(self, request: Request) -> Actor | None:
        project = _parameter(request, "project")
        organization = _parameter(request, "organization")
        if isinstance(request.auth, ApiKey):
            return _bound(request.auth, project=project, organization=organization)
        if isinstance(request.user, User):
            return actor_of_user(request.user, project=project, organization=organization)
        return None

    def _check_parameters(self, request: Request) -> None:
        """Unknown query parameters are refused: a misspelt filter must not look like an unfiltered list."""
        known = set(SHARED_PARAMETERS)
        reading = request.method in ("GET", "HEAD")
        if reading and self.paged:
            known |= PAGING_PARAMETERS
        if not reading and self.dry_runnable:
            known.add("dry_run")
        self.filter_values = {}
        fields = self.filters().get_fields() if reading and self.filters is not None else {}
        known |= set(fields)
        for name in request.query_params:
            if name not in known:
                remedy = f"remove it; known are {', '.join(sorted(known - {'format'}))}"
                raise parameter_problem(name[:80], "unknown parameter", remedy=remedy)
        if reading and self.filters is not None:
            self.filter_values = self._validated_filters(request, self.filters)

    def _validated_filters(
        self, request: Request, filters: type[serializers.Serializer[Any]]
    ) -> Mapping[str, Any]:
        given = {
            name: _parameters(request, name)
            if isinstance(field, serializers.ListField)
            else _parameter(request, name)
            for name, field in filters().get_fields().items()
            if name in request.query_params
        }
        serializer = filters(data=given)
        if not serializer.is_valid():
            name, details = next(iter(serializer.errors.items()))
            detail, value = _first_of(details, given.get(str(name)))
            raise parameter_problem(str(name), detail, value=value[:80])
        return cast(Mapping[str, Any], serializer.validated_data)

    def _flag(self, request: Request, name: str) -> bool:
        text = _parameter(request, name)
        if text not in (None, "true", "false"):
            raise parameter_problem(name, "must be true or false", value=(text or "")[:80])
        return text == "true"

    @property
    def if_match(self) -> str | None:
        """The ``If-Match`` header as it came; services hand it to ``etags.precondition_check`` with the row locked."""
        return self.request.headers.get("If-Match")

    def document(
        self, serializer_class: type[serializers.Serializer[Any]], *, partial: bool = False, **context: Any
    ) -> dict[str, Any]:
        """The validated body. Raises ValidationError, answered with one JSON pointer for each wrong field."""
        serializer = serializer_class(
            data=self.request.data, partial=partial, context={"actor": self.actor, "view": self, **context}
        )
        serializer.is_valid(raise_exception=True)
        return cast(dict[str, Any], serializer.validated_data)

    def page(
        self,
        queryset: "QuerySet[Any]",
        serializer_class: type[serializers.Serializer[Any]],
        *,
        ordering: Sequence[str] = NEWEST_FIRST,
    ) -> Response:
        """One page of a list."""
        page = paginate(queryset, **self.paging, ordering=ordering)
        items = serializer_class(page.items, many=True, context={"actor": self.actor}).data
        return Response({"items": items, "next_cursor": page.next_cursor})

    @property
    def paging(self) -> dict[str, str | None]:
        """``limit`` and ``cursor`` as they came."""
        return {name: _parameter(self.request, name) for name in ("limit", "cursor")}

    def finalize_response(
        self, request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any
    ) -> Response:
        """What is shown to one tenant is kept by no cache."""
        answer = super().finalize_response(request, cast(Response, response), *args, **kwargs)
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer


def _parameter(request: Request, name: str) -> str | None:
    """A query parameter, free of what PostgreSQL cannot hold."""
    value = request.query_params.get(name)
    if value is not None and "\x00" in value:
        raise parameter_problem(name, "must not contain the character NUL")
    return value


def _parameters(request: Request, name: str) -> list[str]:
    """All values of a parameter that may be given several times."""
    values = [str(value) for value in request.query_params.getlist(name)]
    if any("\x00" in value for value in values):
        raise parameter_problem(name, "must not contain the character NUL")
    return values


def _first_of(details: Any, value: Any) -> tuple[str, str]:
    """The first complaint, and the value that it is about: of a list the element that it is told by the place of."""
    while isinstance(details, Mapping):
        place, details = next(iter(details.items()))
        value = value[place]
    return str(details[0]), ", ".join(value) if isinstance(value, list) else value or ""


def _bound(api_key: ApiKey, *, project: str | None, organization: str | None) -> Actor:
    """A key acts for its own project; naming another is answered as if that one did not exist."""
    actor = actor_of_api_key(api_key)
    if project is not None and project not in (api_key.project.name, str(api_key.project_id)):
        raise not_found("project", project)
    if organization is not None and organization not in (
        api_key.project.organization.name,
        str(api_key.project.organization_id),
    ):
        raise not_found("organization", organization)
    return actor
