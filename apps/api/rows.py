"""One row by the id that a client names."""

from typing import TypeVar
from uuid import UUID

from django.db.models import Model, QuerySet

from apps.api.problems import not_found

M = TypeVar("M", bound=Model)


def row_by_id(found: "QuerySet[M]", kind: str, identifier: str) -> M:
    """Of ``found``, which holds no more than the asker may see. Raises Problem ``not_found``, of what is no id too."""
    try:
        row = found.filter(pk=UUID(identifier)).first()
    except ValueError:
        row = None
    if row is None:
        raise not_found(kind, identifier)
    return row
