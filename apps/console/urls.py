"""Addresses of the console."""

from django.urls import path

from apps.console.views.access import KeyLimits, KeyRevoke, KeysPage, ProjectLimits
from apps.console.views.catalog import EnginesPage, ModelsPage
from apps.console.views.deployment import (
    DeploymentDelete,
    DeploymentLive,
    DeploymentLogs,
    DeploymentPage,
    DeploymentRedeploy,
    DeploymentRollback,
)
from apps.console.views.deployment_form import DeploymentEdit, DeploymentNew
from apps.console.views.deployments import DeploymentsPage
from apps.console.views.drains import DrainLift, DrainNew, DrainsPage
from apps.console.views.drills import DrillAbort, DrillsPage
from apps.console.views.fleet import ClusterPage, ClusterRetire, ClustersPage
from apps.console.views.history import AuditPage, EventsPage
from apps.console.views.incidents import HealthPage, IncidentPage, IncidentsPage
from apps.console.views.overview import OverviewLive, OverviewPage
from apps.console.views.plan_changes import PlanDiffPage, WhatIfPage
from apps.console.views.plans import PlannedDeploymentPage, PlanPage, PlansPage
from apps.console.views.pools import PoolPage, ReservationPage
from apps.console.views.replay import ReplayPage
from apps.console.views.session import LoginPage, Logout, ProjectChoice

app_name = "console"

urlpatterns = [
    path("", OverviewPage.as_view(), name="overview"),
    path("overview/live", OverviewLive.as_view(), name="overview-live"),
    path("login", LoginPage.as_view(), name="login"),
    path("logout", Logout.as_view(), name="logout"),
    path("project", ProjectChoice.as_view(), name="project"),
    path("deployments", DeploymentsPage.as_view(), name="deployments"),
    path("new-deployment", DeploymentNew.as_view(), name="deployment-new"),
    path("deployments/<str:name>", DeploymentPage.as_view(), name="deployment"),
    path("deployments/<str:name>/live", DeploymentLive.as_view(), name="deployment-live"),
    path("deployments/<str:name>/logs", DeploymentLogs.as_view(), name="deployment-logs"),
    path("deployments/<str:name>/edit", DeploymentEdit.as_view(), name="deployment-edit"),
    path("deployments/<str:name>/rollback", DeploymentRollback.as_view(), name="deployment-rollback"),
    path("deployments/<str:name>/redeploy", DeploymentRedeploy.as_view(), name="deployment-redeploy"),
    path("deployments/<str:name>/delete", DeploymentDelete.as_view(), name="deployment-delete"),
    path("plans", PlansPage.as_view(), name="plans"),
    path("plans/what-if", WhatIfPage.as_view(), name="what-if"),
    path("plans/replay", ReplayPage.as_view(), name="replay"),
    path("plans/<str:generation>", PlanPage.as_view(), name="plan"),
    path(
        "plans/<str:generation>/deployments/<str:name>",
        PlannedDeploymentPage.as_view(),
        name="plan-deployment",
    ),
    path("plans/<str:generation>/diff", PlanDiffPage.as_view(), name="plan-diff"),
    path("events", EventsPage.as_view(), name="events"),
    path("clusters", ClustersPage.as_view(), name="clusters"),
    path("clusters/<str:name>", ClusterPage.as_view(), name="cluster"),
    path("clusters/<str:name>/retire", ClusterRetire.as_view(), name="cluster-retire"),
    path("clusters/<str:name>/pools/<str:pool>", PoolPage.as_view(), name="pool"),
    path("drains", DrainsPage.as_view(), name="drains"),
    path("drains/new", DrainNew.as_view(), name="drain-new"),
    path("drains/<str:drain_id>/lift", DrainLift.as_view(), name="drain-lift"),
    path("health", HealthPage.as_view(), name="health"),
    path("incidents", IncidentsPage.as_view(), name="incidents"),
    path("incidents/<str:incident_id>", IncidentPage.as_view(), name="incident"),
    path("drills", DrillsPage.as_view(), name="drills"),
    path("drills/<str:drill_id>/abort", DrillAbort.as_view(), name="drill-abort"),
    path("reservations/<str:reservation_id>", ReservationPage.as_view(), name="reservation"),
    path("models", ModelsPage.as_view(), name="models"),
    path("engines", EnginesPage.as_view(), name="engines"),
    path("keys", KeysPage.as_view(), name="keys"),
    path("keys/<str:key_id>/limits", KeyLimits.as_view(), name="key-limits"),
    path("project-limits", ProjectLimits.as_view(), name="project-limits"),
    path("keys/<str:key_id>/revoke", KeyRevoke.as_view(), name="key-revoke"),
    path("audit", AuditPage.as_view(), name="audit"),
]
