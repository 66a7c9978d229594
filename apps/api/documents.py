"""The OpenAPI document, served to anyone."""

from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.views import SpectacularAPIView


class OpenApiYamlView(SpectacularAPIView):
    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    renderer_classes = [OpenApiYamlRenderer]  # noqa: RUF012  (the base class wants a list)


class OpenApiJsonView(SpectacularAPIView):
    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    renderer_classes = [OpenApiJsonRenderer]  # noqa: RUF012
