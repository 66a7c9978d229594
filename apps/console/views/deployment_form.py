"""A deployment by form: see the plan and its cost first, then confirm."""

from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import Any, ClassVar

import yaml
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from apps.api.actors import Right
from apps.api.etags import etag_of_document, etag_of_generation
from apps.api.problems import Problem
from apps.console import sources
from apps.console.forms.deployment import DeploymentForm, form_values
from apps.console.presenters.plan_changes import others_changed
from apps.console.presenters.plans import planned_one
from apps.console.views.base import ConsolePage
from apps.deployments.documents import document_of
from apps.deployments.models import Deployment
from apps.deployments.selectors import deployment_get
from apps.deployments.services import deployment_create, deployment_preview, deployment_replace


class DeploymentFormPage(ConsolePage, ABC):
    """What making and changing share: ``act=preview`` shows the plan of a dry run, ``act=confirm`` writes.

    Only what was shown can be confirmed: ``previewed`` is the digest of the document whose plan was on the page.
    """

    section = "deployments"
    rights: ClassVar[dict[str, Right]] = {"GET": "deploy", "POST": "deploy"}
    heading: ClassVar[str]
    confirm: ClassVar[str]

    def form(self, *args: Any, deployment: Deployment | None = None, **kwargs: Any) -> DeploymentForm:
        """The form with the choices that the catalog and the fleet offer now."""
        options = sources.form_options(actor=self.actor)
        name = deployment.name if deployment is not None else None
        return DeploymentForm(*args, options=options, fixed_name=name, **kwargs)

    def answer(self, form: DeploymentForm, deployment: Deployment | None = None) -> HttpResponse:
        """Judge what was sent: show it with its errors, with its plan, or go on to the deployment."""
        if not form.is_valid():
            return self.show(form, deployment, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        document = form.document()
        digest = etag_of_document(document)
        confirmed = self.request.POST.get("act") == "confirm"
        was_shown = self.request.POST.get("previewed") == digest
        try:
            if confirmed and was_shown:
                return self.write(document, deployment)
            seen = deployment_preview(actor=self.actor, document=document, deployment=deployment).preview
        except Problem as problem:
            return self.show(form, deployment, status=problem.status, problem=form.show_problem(problem))
        return self.show(
            form,
            deployment,
            preview=planned_one(seen.problem, seen.plan, seen.entry.deployment_id),
            others=others_changed(seen.comparison, seen.entry.deployment_id),
            previewed=digest,
            changed_since=confirmed,
            document=yaml.safe_dump(document, sort_keys=False),
        )

    @abstractmethod
    def write(self, document: dict[str, Any], deployment: Deployment | None) -> HttpResponse:
        """Store it. Raises Problem."""

    def show(
        self,
        form: DeploymentForm,
        deployment: Deployment | None,
        *,
        status: int = HTTPStatus.OK,
        **context: Any,
    ) -> HttpResponse:
        """The form, with whatever is to be said about it."""
        return self.page(
            "deployment_form.html",
            status=status,
            form=form,
            deployment=deployment,
            heading=self.heading,
            confirm=self.confirm,
            **context,
        )


class DeploymentNew(DeploymentFormPage):
    """A new deployment."""

    heading = "New deployment"
    confirm = "Deploy"

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(self.form(), None)

    def post(self, request: HttpRequest) -> HttpResponse:
        return self.answer(self.form(request.POST))

    def write(self, document: dict[str, Any], deployment: Deployment | None) -> HttpResponse:
        created = deployment_create(actor=self.actor, document=document)
        messages.success(self.request, f"{created.name} is accepted; it is placed and started now.")
        return redirect("console:deployment", created.name)


class DeploymentEdit(DeploymentFormPage):
    """Another document for a deployment; refused if somebody else has changed it since the form was opened."""

    heading = "Edit deployment"
    confirm = "Apply"

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        deployment = deployment_get(actor=self.actor, name=name)
        initial = form_values(document_of(deployment).as_json())
        etag = etag_of_generation(deployment.generation)
        return self.show(self.form(deployment=deployment, initial=initial), deployment, etag=etag)

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        deployment = deployment_get(actor=self.actor, name=name)
        initial = form_values(document_of(deployment).as_json())
        return self.answer(self.form(request.POST, deployment=deployment, initial=initial), deployment)

    def show(
        self,
        form: DeploymentForm,
        deployment: Deployment | None,
        *,
        status: int = HTTPStatus.OK,
        **context: Any,
    ) -> HttpResponse:
        context.setdefault("etag", self.request.POST.get("etag", ""))
        return super().show(form, deployment, status=status, **context)

    def write(self, document: dict[str, Any], deployment: Deployment | None) -> HttpResponse:
        assert deployment is not None  # noqa: S101  (``post`` has fetched it)
        changed = deployment_replace(
            actor=self.actor,
            deployment=deployment,
            document=document,
            if_match=self.request.POST.get("etag") or None,
        )
        messages.success(self.request, f"{changed.name} is changed.")
        return redirect("console:deployment", changed.name)
