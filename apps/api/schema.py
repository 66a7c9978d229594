"""OpenAPI: what drf-spectacular cannot see in a view by itself: problems, headers, rights, pages."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers

from apps.api.money import USD_PATTERN
from apps.api.problems import CONTENT_TYPE, PROBLEM_TYPES, TYPE_PREFIX
from apps.api.views import MeridianView, Tenancy

_HEADER: Final = "header"
_QUERY: Final = "query"
_PROBLEM_REFERENCE = {"$ref": "#/components/schemas/Problem"}

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
    _HEADER,
    description="The same key with the same request is answered again, not done again.",
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    {"type": "string"},
    _HEADER,
    description="Act only if the object still has this ETag (else 412).",
)
PROJECT = OpenApiParameter(
    "project",
    {"type": "string"},
    _QUERY,
    description="Name or id; sessions say it, API keys are bound to theirs.",
)
ORGANIZATION = OpenApiParameter(
    "organization", {"type": "string"}, _QUERY, description="Name or id; for sessions without a project."
)
LIMIT = OpenApiParameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
    _QUERY,
    description="Items a page.",
)
CURSOR = OpenApiParameter(
    "cursor", {"type": "string"}, _QUERY, description="`next_cursor` of the page before."
)
DRY_RUN = OpenApiParameter(
    "dry_run",
    {"type": "boolean", "default": False},
    _QUERY,
    description="Say what would happen; write nothing.",
)


@cache
def page_of(item: type[serializers.Serializer[Any]]) -> type[serializers.Serializer[Any]]:
    """The envelope of a list, for ``@extend_schema(responses=page_of(XSerializer))``."""
    name = item.__name__.removesuffix("Serializer")
    envelope = inline_serializer(
        name=f"{name}Page",
        fields={
            "items": item(many=True),
            "next_cursor": serializers.CharField(allow_null=True, help_text="null on the last page"),
        },
    )
    return type(envelope)


class MeridianSchema(AutoSchema):
    """Adds to each operation of a ``MeridianView`` what the base class does for it."""

    view: Any

    def get_override_parameters(self) -> list[Any]:
        parameters = list(super().get_override_parameters())
        if not isinstance(self.view, MeridianView):
            return parameters
        if self.view.tenancy in (Tenancy.PROJECT, Tenancy.ORGANIZATION):
            parameters += [PROJECT, ORGANIZATION]
        if self.method == "POST":
            parameters.append(IDEMPOTENCY_KEY)
        changes = self.method in ("PUT", "PATCH", "DELETE") and self.view.etagged
        if changes or (self.method == "POST" and self.view.post_etagged):
            parameters.append(IF_MATCH)
        if self.method == "GET" and self.view.paged:
            parameters += [LIMIT, CURSOR]
        if self.method == "GET" and self.view.filters is not None:
            parameters.append(self.view.filters)
        if self.method != "GET" and self.view.dry_runnable:
            parameters.append(DRY_RUN)
        return parameters

    def get_description(self) -> Any:  # type: ignore[override]
        """What the operation or its own view says of itself; what a base class says is for who writes views."""
        own = getattr(self.view, self.method.lower()).__doc__ or type(self.view).__dict__.get("__doc__")
        return (
            inspect.cleandoc(own or "") if isinstance(self.view, MeridianView) else super().get_description()
        )

    def get_extensions(self) -> dict[str, Any]:
        extensions: dict[str, Any] = dict(super().get_extensions())
        right = getattr(self.view, "rights", {}).get(self.method)
        return {**extensions, "x-right": right} if right else extensions

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        if isinstance(self.view, MeridianView):
            bodies["default"] = {
                "description": "A problem (RFC 9457)",
                "content": {CONTENT_TYPE: {"schema": _PROBLEM_REFERENCE}},
            }
        return bodies


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "apps.accounts.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "mrd_<prefix>_<secret>"}


class UsdScheme(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = "apps.api.validation.UsdField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        return {"type": "string", "pattern": USD_PATTERN, "examples": ["98.32"]}


def schema_complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Put the problem document in, with every type that can occur; close all request objects."""
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _problem_schema()
    requests = {name for path in result["paths"].values() for name in _request_schemas(path)}
    for name in requests:
        if schemas.get(name, {}).get("type") == "object":
            schemas[name].setdefault("additionalProperties", False)
    return result


def _request_schemas(path: Mapping[str, Any]) -> set[str]:
    names = set()
    for operation in path.values():
        content = operation.get("requestBody", {}).get("content", {}) if isinstance(operation, dict) else {}
        for media in content.values():
            reference = media.get("schema", {}).get("$ref", "")
            names.add(reference.rpartition("/")[2])
    return names


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    error = {
        "type": "object",
        "required": ["detail"],
        "properties": {
            "pointer": {**text, "description": "JSON pointer into the body"},
            "parameter": {**text, "description": "query parameter or header"},
            "detail": text,
            "value": {},
            "remedy": text,
        },
    }
    refusal = {
        "type": "object",
        "required": ["rule", "subject", "value", "remedy"],
        "properties": {"rule": text, "subject": text, "value": text, "remedy": text},
    }
    return {
        "type": "object",
        "description": "Why a request was not done (RFC 9457).",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {**text, "enum": [TYPE_PREFIX + type_id for type_id in PROBLEM_TYPES]},
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "instance": text,
            "errors": {"type": "array", "items": error},
            "refusals": {"type": "array", "items": refusal},
        },
    }


def empty(description: str) -> OpenApiResponse:
    """An answer without a body, for ``@extend_schema(responses={204: empty("Deleted")})``."""
    return OpenApiResponse(description=description)
