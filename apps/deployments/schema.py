"""The JSON Schema of a deployment's document, made from the serializer that judges it."""

from typing import Any

from rest_framework import serializers

from apps.api.validation import StrictBooleanField, StrictFloatField, StrictIntegerField
from apps.deployments.serializers_document import DeploymentDocumentSerializer


def deployment_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Meridian deployment",
        **_object(DeploymentDocumentSerializer()),
    }


def _object(serializer: serializers.Serializer[Any]) -> dict[str, Any]:
    required = [name for name, field in serializer.fields.items() if field.required]
    schema: dict[str, Any] = {
        "type": "object",
        "description": (type(serializer).__doc__ or "").strip(),
        "additionalProperties": False,
        "properties": {name: _field(field) for name, field in serializer.fields.items()},
    }
    return {**schema, "required": required} if required else schema


def _field(field: serializers.Field[Any, Any, Any, Any]) -> dict[str, Any]:
    schema = _shape(field)
    if field.allow_null:
        schema["type"] = [schema["type"], "null"]
    if field.help_text:
        schema["description"] = str(field.help_text)
    return schema


def _shape(field: serializers.Field[Any, Any, Any, Any]) -> dict[str, Any]:
    if isinstance(field, serializers.Serializer):
        return _object(field)
    if isinstance(field, serializers.ListField):
        return {
            "type": "array",
            "maxItems": field.max_length,
            "uniqueItems": True,
            "items": _field(field.child),
        }
    if isinstance(field, StrictIntegerField | StrictFloatField):
        kind = "integer" if isinstance(field, StrictIntegerField) else "number"
        return {"type": kind, "minimum": field.min_value, "maximum": field.max_value}
    if isinstance(field, StrictBooleanField):
        return {"type": "boolean"}
    if isinstance(field, serializers.ChoiceField):
        return {"type": "string", "enum": list(field.choices)}
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if isinstance(field, serializers.CharField) and field.max_length is not None:
        schema["maxLength"] = field.max_length
    patterns = [regex.pattern for v in field.validators if (regex := getattr(v, "regex", None)) is not None]
    if patterns:
        schema["pattern"] = patterns[0].replace(r"\Z", "$")
    return schema
