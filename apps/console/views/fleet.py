"""Clusters, their pools, and enrolment tokens."""

from http import HTTPStatus
from typing import Any, ClassVar

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from apps.agents.services import enrolment_token_create
from apps.api.actors import Right
from apps.api.problems import Problem
from apps.console import sources
from apps.console.presenters.fleet import ClusterView
from apps.console.views.base import ConsolePage
from apps.fleet.models import Cluster
from apps.fleet.selectors import cluster_get
from apps.fleet.services import cluster_retire


class ClustersPage(ConsolePage):
    """All clusters of the organization and all their pools."""

    section = "clusters"

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.page("clusters.html", clusters=sources.fleet(actor=self.actor))


class ClusterPage(ConsolePage):
    """One cluster. POST makes an enrolment token and shows it in its own answer, never again."""

    section = "clusters"
    rights: ClassVar[dict[str, Right]] = {"GET": "read", "POST": "operate"}

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return self._page(cluster_get(actor=self.actor, name=name))

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        cluster = cluster_get(actor=self.actor, name=name)
        try:
            row, secret = enrolment_token_create(actor=self.actor, cluster=cluster)
        except Problem as problem:
            return self._page(cluster, status=problem.status, problem=problem)
        return self._page(cluster, token={"secret": secret, "expires_at": row.expires_at})

    def _page(self, cluster: Cluster, *, status: int = HTTPStatus.OK, **context: Any) -> HttpResponse:
        view: ClusterView = next(
            view for view in sources.fleet(actor=self.actor) if view.cluster.pk == cluster.pk
        )
        return self.page(
            "cluster.html",
            status=status,
            view=view,
            clusters=[view],
            session=getattr(view.cluster, "session", None),
            domains=view.cluster.failure_domains.all(),
            replicas=sources.replicas_of_cluster(actor=self.actor, cluster=cluster),
            nodes=sources.nodes_of_cluster(actor=self.actor, cluster=cluster),
            events=sources.events_newest(actor=self.actor, cluster_id=cluster.pk),
            **context,
        )


class ClusterRetire(ConsolePage):
    """Asks for the name, then gives the cluster up."""

    section = "clusters"
    rights: ClassVar[dict[str, Right]] = {"GET": "operate", "POST": "operate"}

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return self._page(cluster_get(actor=self.actor, name=name))

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        cluster = cluster_get(actor=self.actor, name=name)
        if request.POST.get("confirm", "").strip() != cluster.name:
            return self._page(cluster, status=HTTPStatus.UNPROCESSABLE_ENTITY, mismatch=True)
        try:
            cluster_retire(actor=self.actor, cluster=cluster)
        except Problem as problem:
            return self._page(cluster, status=problem.status, problem=problem)
        messages.success(
            request, f"{name} is retired; what ran there is placed elsewhere when its lease is over."
        )
        return redirect("console:cluster", name)

    def _page(self, cluster: Cluster, *, status: int = HTTPStatus.OK, **context: Any) -> HttpResponse:
        present = len(sources.replicas_of_cluster(actor=self.actor, cluster=cluster))
        return self.page("cluster_retire.html", status=status, cluster=cluster, present=present, **context)
