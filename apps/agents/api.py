"""Replicas and agents over REST."""

from typing import ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.agents import selectors, services
from apps.agents.serializers import (
    AgentSerializer,
    DeploymentLogFilters,
    DeploymentReplicaFilters,
    LogReadingSerializer,
    NodeFilters,
    NodeSerializer,
    ReplicaFilters,
    ReplicaSerializer,
)
from apps.api.schema import page_of
from apps.api.views import MeridianView, Rights, Tenancy
from apps.deployments import selectors as deployments
from apps.fleet import selectors as fleet

NEWEST_FIRST = ("-started_at", "-id")
BY_PLACE = ("cluster_id", "name", "id")


@extend_schema(tags=["replicas"])
class ReplicasView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.PROJECT
    filters = ReplicaFilters
    paged = True

    @extend_schema(operation_id="replicas_list", responses=page_of(ReplicaSerializer))
    def get(self, request: Request) -> Response:
        found = selectors.replicas_of_project(actor=self.actor, **self.filter_values)
        return self.page(found, ReplicaSerializer, ordering=NEWEST_FIRST)


@extend_schema(tags=["deployments"])
class DeploymentReplicasView(MeridianView):
    """A deployment's replicas; those that are gone are left out unless asked for."""

    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.PROJECT
    filters = DeploymentReplicaFilters
    paged = True

    @extend_schema(operation_id="deployments_replicas", responses=page_of(ReplicaSerializer))
    def get(self, request: Request, name: str) -> Response:
        deployment = deployments.deployment_get(actor=self.actor, name=name)
        wanted = {"present": True, **self.filter_values}
        found = selectors.replicas_of_project(actor=self.actor, **wanted).filter(deployment=deployment)
        return self.page(found, ReplicaSerializer, ordering=NEWEST_FIRST)


@extend_schema(tags=["deployments"])
class DeploymentLogsView(MeridianView):
    """What a deployment's replicas log, as their clusters deliver it while somebody reads.

    The first reading asks the clusters; replicas are ``waiting`` until their lines come, within seconds. Read on with
    ``after``, once a second; fifteen seconds without a reading end the delivery, and nothing is kept.
    Logs may hold what clients said, so this needs the right to deploy, and reading is audited.
    """

    rights: ClassVar[Rights] = {"GET": "deploy"}
    tenancy = Tenancy.PROJECT
    filters = DeploymentLogFilters

    @extend_schema(operation_id="deployments_logs", responses=LogReadingSerializer)
    def get(self, request: Request, name: str) -> Response:
        deployment = deployments.deployment_get(actor=self.actor, name=name)
        reading = services.logs_watch(
            actor=self.actor, deployment=deployment, now=timezone.now(), **self.filter_values
        )
        return Response(LogReadingSerializer(reading).data)


@extend_schema(tags=["clusters"])
class NodesView(MeridianView):
    """The machines of the organization's pools, as agents tell them."""

    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.ORGANIZATION
    filters = NodeFilters
    paged = True

    @extend_schema(operation_id="nodes_list", responses=page_of(NodeSerializer))
    def get(self, request: Request) -> Response:
        found = selectors.nodes(actor=self.actor, **self.filter_values)
        return self.page(found, NodeSerializer, ordering=BY_PLACE)


@extend_schema(tags=["clusters"])
class AgentView(MeridianView):
    rights: ClassVar[Rights] = {"GET": "read"}
    tenancy = Tenancy.ORGANIZATION

    @extend_schema(operation_id="clusters_agent", responses=AgentSerializer)
    def get(self, request: Request, name: str) -> Response:
        cluster = fleet.cluster_get(actor=self.actor, name=name)
        return Response(AgentSerializer(selectors.agent_status(cluster=cluster, now=timezone.now())).data)
