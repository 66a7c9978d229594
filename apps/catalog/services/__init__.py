"""Writing the catalog: models, versions, adapters, engine images, performance profiles."""

from apps.catalog.services.adapter import adapter_create, adapter_delete
from apps.catalog.services.engine_image import engine_image_create, engine_image_delete
from apps.catalog.services.model import (
    model_create,
    model_delete,
    model_version_create,
    model_version_delete,
)
from apps.catalog.services.profile import profile_create, profile_delete

__all__ = [
    "adapter_create",
    "adapter_delete",
    "engine_image_create",
    "engine_image_delete",
    "model_create",
    "model_delete",
    "model_version_create",
    "model_version_delete",
    "profile_create",
    "profile_delete",
]
