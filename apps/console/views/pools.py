"""A pool and its reservations: seen, and changed by whoever may operate the fleet."""

from http import HTTPStatus
from typing import Any, ClassVar

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from apps.api.actors import Right
from apps.api.etags import etag_of_generation
from apps.api.problems import Problem, not_found
from apps.console.forms.fleet import PoolForm, ReservationForm, pool_values, reservation_values
from apps.console.views.base import ConsolePage
from apps.fleet.models import GpuPool, Procurement, Reservation
from apps.fleet.selectors import pool_by_name, reservation_get, reservations
from apps.fleet.services import Advice, pool_patch, reservation_advise, reservation_patch

RESERVATIONS_SHOWN = 100


class PoolPage(ConsolePage):
    """A pool's form and its reservations; refused if somebody else has changed the pool since it was opened."""

    section = "clusters"
    rights: ClassVar[dict[str, Right]] = {"GET": "operate", "POST": "operate"}

    def get(self, request: HttpRequest, name: str, pool: str) -> HttpResponse:
        row = self._pool(name, pool)
        return self._page(row, PoolForm(initial=pool_values(row, getattr(row, "micro_usd_per_h", None))))

    def post(self, request: HttpRequest, name: str, pool: str) -> HttpResponse:
        row = self._pool(name, pool)
        form = PoolForm(request.POST)
        if not form.is_valid():
            return self._page(row, form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        try:
            pool_patch(
                actor=self.actor, pool=row, if_match=request.POST.get("etag") or None, **form.cleaned_data
            )
        except Problem as problem:
            return self._page(row, form, status=problem.status, problem=form.show_problem(problem))
        messages.success(request, f"{row.name} is changed; placement looks at it now.")
        return redirect("console:cluster", name)

    def _pool(self, cluster: str, name: str) -> GpuPool:
        found = pool_by_name(actor=self.actor, cluster=cluster, name=name)
        if found is None:
            raise not_found("pool", name)
        return found

    def _page(
        self, row: GpuPool, form: PoolForm, *, status: int = HTTPStatus.OK, **context: Any
    ) -> HttpResponse:
        held = reservations(actor=self.actor, pool=row.pk).order_by("-starts_at", "pk")[:RESERVATIONS_SHOWN]
        etag = self.request.POST.get("etag") or etag_of_generation(row.generation)
        return self.page(
            "pool.html",
            status=status,
            pool=row,
            form=form,
            etag=etag,
            reservations=held,
            advice=self._advice(row),
            **context,
        )

    def _advice(self, row: GpuPool) -> Advice | None:
        """How many instances of its type are worth reserving in its region."""
        if row.procurement != Procurement.RESERVED:
            return None
        found = reservation_advise(
            actor=self.actor,
            now=timezone.now(),
            region=row.cluster.region.name,
            instance_type=row.instance_type.name,
        )
        return found[0] if found else None


class ReservationPage(ConsolePage):
    """One reservation's form."""

    section = "clusters"
    rights: ClassVar[dict[str, Right]] = {"GET": "operate", "POST": "operate"}

    def get(self, request: HttpRequest, reservation_id: str) -> HttpResponse:
        row = reservation_get(actor=self.actor, reservation_id=reservation_id)
        return self._page(row, ReservationForm(initial=reservation_values(row)))

    def post(self, request: HttpRequest, reservation_id: str) -> HttpResponse:
        row = reservation_get(actor=self.actor, reservation_id=reservation_id)
        form = ReservationForm(request.POST)
        if not form.is_valid():
            return self._page(row, form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        try:
            reservation_patch(actor=self.actor, reservation=row, **form.cleaned_data)
        except Problem as problem:
            return self._page(row, form, status=problem.status, problem=form.show_problem(problem))
        messages.success(request, "The reservation is changed; placement looks at it now.")
        return redirect("console:pool", row.pool.cluster.name, row.pool.name)

    def _page(
        self, row: Reservation, form: ReservationForm, *, status: int = HTTPStatus.OK, **context: Any
    ) -> HttpResponse:
        return self.page("reservation.html", status=status, reservation=row, form=form, **context)
