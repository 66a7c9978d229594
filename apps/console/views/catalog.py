"""Models and engine images, to look at; they are written through the API."""

from django.http import HttpRequest, HttpResponse

from apps.api.pagination import paginate
from apps.catalog.selectors import engine_images
from apps.console import sources
from apps.console.views.base import ConsolePage


class ModelsPage(ConsolePage):
    """The project's models with their versions, and what adapters those have."""

    section = "models"

    def get(self, request: HttpRequest) -> HttpResponse:
        page = paginate(
            sources.models_with_adapters(actor=self.actor), limit=None, cursor=request.GET.get("cursor")
        )
        profiles = sources.profiles_of(actor=self.actor, models=page.items)
        return self.page("models.html", page=page, profiles=profiles)


class EnginesPage(ConsolePage):
    """The engine images that all projects share."""

    section = "engines"

    def get(self, request: HttpRequest) -> HttpResponse:
        page = paginate(engine_images(), limit=None, cursor=request.GET.get("cursor"))
        return self.page("engines.html", page=page)
