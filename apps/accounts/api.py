"""Organizations, projects, members, people and API keys over REST."""

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import selectors, services
from apps.accounts.selectors import organization_wanted, project_wanted
from apps.accounts.serializers import (
    ApiKeyCreatedSerializer,
    ApiKeyCreateSerializer,
    ApiKeyFilters,
    ApiKeyPatchSerializer,
    ApiKeySerializer,
    MemberCreateSerializer,
    MemberPatchSerializer,
    MemberSerializer,
    MeSerializer,
    NamedCreateSerializer,
    OrganizationSerializer,
    ProjectPatchSerializer,
    ProjectSerializer,
    UserCreatedSerializer,
    UserCreateSerializer,
)
from apps.api.idempotency import SecretResponse
from apps.api.responses import created, gone
from apps.api.schema import empty, page_of
from apps.api.views import MeridianView, Rights, Tenancy

ROOT = "/api/v1"


@extend_schema(tags=["accounts"])
class MeView(MeridianView):
    """Who the caller is, and what it may do."""

    rights: ClassVar[Rights] = {"GET": "none"}
    tenancy = Tenancy.CALLER

    @extend_schema(operation_id="me_get", responses=MeSerializer)
    def get(self, request: Request) -> Response:
        return Response(MeSerializer(self.actor).data)


@extend_schema(tags=["accounts"])
class OrganizationsView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "admin"}
    tenancy = Tenancy.CALLER
    paged = True

    @extend_schema(operation_id="organizations_list", responses=page_of(OrganizationSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.organizations(actor=self.actor), OrganizationSerializer)

    @extend_schema(
        operation_id="organizations_create",
        request=NamedCreateSerializer,
        responses={201: OrganizationSerializer},
    )
    def post(self, request: Request) -> Response:
        made = services.organization_create(actor=self.actor, **self.document(NamedCreateSerializer))
        return created(OrganizationSerializer(made).data, location=f"{ROOT}/organizations/{made.name}")


@extend_schema(tags=["accounts"])
class OrganizationView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.CALLER

    @extend_schema(operation_id="organizations_get", responses=OrganizationSerializer)
    def get(self, request: Request, name: str) -> Response:
        return Response(OrganizationSerializer(selectors.organization_get(actor=self.actor, name=name)).data)


@extend_schema(tags=["accounts"])
class ProjectsView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "own"}
    tenancy = Tenancy.CALLER
    paged = True

    @extend_schema(operation_id="projects_list", responses=page_of(ProjectSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.projects(actor=self.actor), ProjectSerializer)

    @extend_schema(
        operation_id="projects_create", request=NamedCreateSerializer, responses={201: ProjectSerializer}
    )
    def post(self, request: Request) -> Response:
        made = services.project_create(
            actor=self.actor,
            organization_id=organization_wanted(self.actor),
            **self.document(NamedCreateSerializer),
        )
        return created(ProjectSerializer(made).data, location=f"{ROOT}/projects/{made.name}")


@extend_schema(tags=["accounts"])
class ProjectView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "PATCH": "own"}
    tenancy = Tenancy.CALLER
    etagged = False

    @extend_schema(operation_id="projects_get", responses=ProjectSerializer)
    def get(self, request: Request, name: str) -> Response:
        return Response(ProjectSerializer(selectors.project_get(actor=self.actor, name=name)).data)

    @extend_schema(operation_id="projects_patch", request=ProjectPatchSerializer, responses=ProjectSerializer)
    def patch(self, request: Request, name: str) -> Response:
        found = selectors.project_get(actor=self.actor, name=name)
        changed = services.project_change(
            actor=self.actor, project=found, **self.document(ProjectPatchSerializer)
        )
        return Response(ProjectSerializer(changed).data)


@extend_schema(tags=["accounts"])
class MembersView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "own"}
    tenancy = Tenancy.ORGANIZATION
    paged = True

    @extend_schema(operation_id="members_list", responses=page_of(MemberSerializer))
    def get(self, request: Request) -> Response:
        return self.page(selectors.memberships(actor=self.actor), MemberSerializer)

    @extend_schema(
        operation_id="members_create", request=MemberCreateSerializer, responses={201: MemberSerializer}
    )
    def post(self, request: Request) -> Response:
        made = services.member_add(
            actor=self.actor,
            organization_id=organization_wanted(self.actor),
            **self.document(MemberCreateSerializer),
        )
        return created(MemberSerializer(made).data, location=f"{ROOT}/members/{made.user.username}")


@extend_schema(tags=["accounts"])
class MemberView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "PATCH": "own", "DELETE": "own"}
    tenancy = Tenancy.ORGANIZATION
    etagged = False

    @extend_schema(operation_id="members_get", responses=MemberSerializer)
    def get(self, request: Request, username: str) -> Response:
        found = selectors.membership_get(actor=self.actor, username=username)
        return Response(MemberSerializer(found).data)

    @extend_schema(operation_id="members_patch", request=MemberPatchSerializer, responses=MemberSerializer)
    def patch(self, request: Request, username: str) -> Response:
        found = selectors.membership_get(actor=self.actor, username=username)
        document = self.document(MemberPatchSerializer)
        changed = services.member_change(actor=self.actor, membership=found, **document)
        return Response(MemberSerializer(changed).data)

    @extend_schema(operation_id="members_delete", responses={204: empty("Removed")})
    def delete(self, request: Request, username: str) -> Response:
        found = selectors.membership_get(actor=self.actor, username=username)
        services.member_remove(actor=self.actor, membership=found)
        return gone()


@extend_schema(tags=["accounts"])
class UsersView(MeridianView):
    """Accounts are given out by administrators of the installation."""

    rights: ClassVar[Rights] = {"POST": "admin"}
    tenancy = Tenancy.SHARED

    @extend_schema(
        operation_id="users_create", request=UserCreateSerializer, responses={201: UserCreatedSerializer}
    )
    def post(self, request: Request) -> Response:
        user, password = services.user_create(actor=self.actor, **self.document(UserCreateSerializer))
        body = {
            "id": user.pk,
            "username": user.username,
            "email": user.email,
            "initial_password": password,
            "note": None,
        }
        return SecretResponse(body, secret_fields=["initial_password"], status=201)


@extend_schema(tags=["accounts"])
class ApiKeysView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "operate"}
    tenancy = Tenancy.PROJECT
    filters = ApiKeyFilters
    paged = True

    @extend_schema(operation_id="api_keys_list", responses=page_of(ApiKeySerializer))
    def get(self, request: Request) -> Response:
        revoked = self.filter_values.get("revoked")
        keys = selectors.api_keys(actor=self.actor, revoked=None if revoked is None else revoked == "true")
        return self.page(keys, ApiKeySerializer)

    @extend_schema(
        operation_id="api_keys_create",
        request=ApiKeyCreateSerializer,
        responses={201: ApiKeyCreatedSerializer},
    )
    def post(self, request: Request) -> Response:
        row, key = services.api_key_create(
            actor=self.actor,
            project_id=project_wanted(self.actor),
            **self.document(ApiKeyCreateSerializer),
        )
        return SecretResponse(
            {**ApiKeySerializer(row).data, "key": key, "note": None},
            secret_fields=["key"],
            status=201,
            headers={"Location": f"{ROOT}/api-keys/{row.pk}"},
        )


@extend_schema(tags=["accounts"])
class ApiKeyView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read", "PATCH": "operate", "DELETE": "operate"}
    tenancy = Tenancy.PROJECT
    etagged = False

    @extend_schema(operation_id="api_keys_get", responses=ApiKeySerializer)
    def get(self, request: Request, name: str) -> Response:
        return Response(ApiKeySerializer(selectors.api_key_get(actor=self.actor, name=name)).data)

    @extend_schema(operation_id="api_keys_patch", request=ApiKeyPatchSerializer, responses=ApiKeySerializer)
    def patch(self, request: Request, name: str) -> Response:
        found = selectors.api_key_get(actor=self.actor, name=name)
        changed = services.api_key_change(
            actor=self.actor, api_key=found, **self.document(ApiKeyPatchSerializer)
        )
        return Response(ApiKeySerializer(changed).data)

    @extend_schema(operation_id="api_keys_revoke", responses={204: empty("Revoked")})
    def delete(self, request: Request, name: str) -> Response:
        services.api_key_revoke(actor=self.actor, api_key=selectors.api_key_get(actor=self.actor, name=name))
        return gone()
