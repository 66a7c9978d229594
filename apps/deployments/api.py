"""Deployments over REST."""

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.etags import etag_of_generation
from apps.api.problems import Problem
from apps.api.responses import created, found
from apps.api.schema import empty, page_of
from apps.api.views import MeridianView, Rights, Tenancy
from apps.deployments import selectors, services
from apps.deployments.models import Deployment
from apps.deployments.schema import deployment_schema
from apps.deployments.serializers import (
    DeploymentFilters,
    DeploymentSerializer,
    DryRunSerializer,
    RevisionSerializer,
    RollbackSerializer,
    StatusSerializer,
)
from apps.deployments.serializers_document import DeploymentDocumentSerializer

ROOT = "/api/v1/deployments"


class DeploymentsBase(MeridianView):
    """What the views of one deployment share."""

    tenancy = Tenancy.PROJECT

    def _deployment(self, name: str) -> Deployment:
        return selectors.deployment_get(actor=self.actor, name=name)

    def _accepted(self, deployment: Deployment) -> Response:
        """202 with the object: it is stored, and being carried out."""
        return created(
            DeploymentSerializer(deployment).data,
            location=f"{ROOT}/{deployment.name}",
            etag=etag_of_generation(deployment.generation),
            status=202,
        )


@extend_schema(tags=["deployments"])
class DeploymentsView(DeploymentsBase):
    rights: ClassVar[Rights] = {"GET": "read", "POST": "deploy"}
    filters = DeploymentFilters
    paged = True
    dry_runnable = True

    @extend_schema(operation_id="deployments_list", responses=page_of(DeploymentSerializer))
    def get(self, request: Request) -> Response:
        found = selectors.deployments_listed(actor=self.actor, **self.filter_values)
        return self.page(found, DeploymentSerializer)

    @extend_schema(
        operation_id="deployments_create",
        request=DeploymentDocumentSerializer,
        responses={202: DeploymentSerializer, 200: DryRunSerializer},
    )
    def post(self, request: Request) -> Response:
        if self.dry_run:
            dry_run = services.deployment_preview(actor=self.actor, document=request.data)
            return Response(DryRunSerializer(dry_run, context={"actor": self.actor}).data)
        return self._accepted(services.deployment_create(actor=self.actor, document=request.data))


@extend_schema(tags=["deployments"])
class DeploymentView(DeploymentsBase):
    rights: ClassVar[Rights] = {"GET": "read", "PUT": "deploy", "PATCH": "deploy", "DELETE": "deploy"}
    dry_runnable = True

    @extend_schema(operation_id="deployments_get", responses=DeploymentSerializer)
    def get(self, request: Request, name: str) -> Response:
        deployment = self._deployment(name)
        return found(DeploymentSerializer(deployment).data, etag=etag_of_generation(deployment.generation))

    @extend_schema(
        operation_id="deployments_replace",
        request=DeploymentDocumentSerializer,
        responses={202: DeploymentSerializer, 200: DryRunSerializer},
    )
    def put(self, request: Request, name: str) -> Response:
        return self._write(request, name, partial=False)

    @extend_schema(
        operation_id="deployments_patch",
        request=DeploymentDocumentSerializer(partial=True),
        responses={202: DeploymentSerializer, 200: DryRunSerializer},
    )
    def patch(self, request: Request, name: str) -> Response:
        return self._write(request, name, partial=True)

    def _write(self, request: Request, name: str, *, partial: bool) -> Response:
        deployment = self._deployment(name)
        if self.dry_run:
            dry_run = services.deployment_preview(
                actor=self.actor, document=request.data, deployment=deployment, partial=partial
            )
            return Response(DryRunSerializer(dry_run, context={"actor": self.actor}).data)
        if partial:
            changed = services.deployment_patch(
                actor=self.actor, deployment=deployment, changes=request.data, if_match=self.if_match
            )
        else:
            changed = services.deployment_replace(
                actor=self.actor, deployment=deployment, document=request.data, if_match=self.if_match
            )
        return self._accepted(changed)

    @extend_schema(
        operation_id="deployments_delete", responses={202: empty("It drains, and is gone when nothing runs")}
    )
    def delete(self, request: Request, name: str) -> Response:
        if self.dry_run:
            raise Problem("invalid_parameter", "dry_run: a deletion has no plan to show; leave it out")
        services.deployment_delete(
            actor=self.actor, deployment=self._deployment(name), if_match=self.if_match
        )
        return Response(status=202)


@extend_schema(tags=["deployments"])
class StatusView(DeploymentsBase):
    rights: ClassVar[Rights] = {"GET": "read"}

    @extend_schema(operation_id="deployments_status", responses=StatusSerializer)
    def get(self, request: Request, name: str) -> Response:
        return found(StatusSerializer(self._deployment(name)).data)


@extend_schema(tags=["deployments"])
class RevisionsView(DeploymentsBase):
    rights: ClassVar[Rights] = {"GET": "read"}
    paged = True

    @extend_schema(operation_id="deployments_revisions", responses=page_of(RevisionSerializer))
    def get(self, request: Request, name: str) -> Response:
        rows = selectors.revisions(deployment=self._deployment(name))
        return self.page(rows, RevisionSerializer, ordering=("-number", "-id"))


@extend_schema(tags=["deployments"])
class RollbackView(DeploymentsBase):
    """Runs again what an earlier revision ran, as a new revision."""

    rights: ClassVar[Rights] = {"POST": "deploy"}
    post_etagged = True

    @extend_schema(
        operation_id="deployments_rollback", request=RollbackSerializer, responses={202: DeploymentSerializer}
    )
    def post(self, request: Request, name: str) -> Response:
        deployment = self._deployment(name)
        revision = self.document(RollbackSerializer)["revision"]
        return self._accepted(
            services.deployment_rollback(
                actor=self.actor, deployment=deployment, revision=revision, if_match=self.if_match
            )
        )


@extend_schema(tags=["deployments"])
class RedeployView(DeploymentsBase):
    """Runs the same model version on the newest image of its engine, as a new revision."""

    rights: ClassVar[Rights] = {"POST": "deploy"}
    post_etagged = True

    @extend_schema(operation_id="deployments_redeploy", request=None, responses={202: DeploymentSerializer})
    def post(self, request: Request, name: str) -> Response:
        if request.data:
            raise Problem("invalid_document", "this takes no body; send none, or {}")
        return self._accepted(
            services.deployment_redeploy(
                actor=self.actor, deployment=self._deployment(name), if_match=self.if_match
            )
        )


@extend_schema(tags=["deployments"])
class DeploymentSchemaView(MeridianView):
    """The JSON Schema of the document, for editors."""

    rights: ClassVar[Rights] = {"GET": "none"}
    tenancy = Tenancy.SHARED

    @extend_schema(operation_id="deployment_schema", responses={200: dict})
    def get(self, request: Request) -> Response:
        return Response(deployment_schema())
