"""Cursor paging: ``limit`` and ``cursor`` in, ``{"items": [...], "next_cursor": ...}`` out.

A cursor holds the last row's sort values, so a page costs one indexed query however deep it lies, and rows that
appear or vanish meanwhile neither repeat nor hide others.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Model, Q, QuerySet

from apps.api.problems import Problem, parameter_problem

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
NEWEST_FIRST = ("-created_at", "-id")


@dataclass(frozen=True)
class Page:
    """Rows and the cursor of the next page, None on the last."""

    items: list[Any]
    next_cursor: str | None


def paginate(
    queryset: "QuerySet[Any]",
    *,
    limit: str | None,
    cursor: str | None,
    ordering: Sequence[str] = NEWEST_FIRST,
) -> Page:
    """One page of ``queryset``, ordered by ``ordering``, whose last field must be unique."""
    size = _limit(limit)
    rows_wanted = queryset.order_by(*ordering)
    if cursor is not None:
        rows_wanted = rows_wanted.filter(_after(ordering, _decoded(cursor, ordering, queryset)))
    rows = list(rows_wanted[: size + 1])
    more = len(rows) > size
    rows = rows[:size]
    return Page(items=rows, next_cursor=_encoded(rows[-1], ordering) if more else None)


def paginate_names(names: Iterable[str], *, limit: str | None, cursor: str | None) -> Page:
    """One page of names that are in memory already, in alphabetical order."""
    size = _limit(limit)
    after = None if cursor is None else _decoded_name(cursor)
    left = sorted(name for name in names if after is None or name > after)
    more = len(left) > size
    shown = left[:size]
    return Page(items=shown, next_cursor=_packed([shown[-1]]) if more else None)


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
        raise parameter_problem("limit", f"must be a number from 1 to {MAX_LIMIT}", value=text[:20])
    return int(text)


def _after(ordering: Sequence[str], values: Sequence[Any]) -> Q:
    """Rows that come after ``values``: lexicographic, each field in its own direction."""
    condition = Q(pk__in=[])
    equal = Q()
    for field, value in zip(ordering, values, strict=True):
        name, comparison = (field[1:], "lt") if field.startswith("-") else (field, "gt")
        condition |= equal & Q(**{f"{name}__{comparison}": value})
        equal &= Q(**{name: value})
    first, comparison = (ordering[0][1:], "lte") if ordering[0].startswith("-") else (ordering[0], "gte")
    return (
        Q(**{f"{first}__{comparison}": values[0]}) & condition
    )  # the bound that lets PostgreSQL use its index


def _encoded(row: Model, ordering: Sequence[str]) -> str:
    values = [getattr(row, field.removeprefix("-")) for field in ordering]
    plain = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    return _packed(plain)


def _packed(values: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(values, default=str).encode()).decode().rstrip("=")


def _decoded(cursor: str, ordering: Sequence[str], queryset: "QuerySet[Any]") -> list[Any]:
    values = _unpacked(cursor, len(ordering))
    return [
        _typed(value, queryset.model._meta.get_field(field.removeprefix("-")).get_internal_type())
        for value, field in zip(values, ordering, strict=True)
    ]


def _decoded_name(cursor: str) -> str:
    return str(_typed(_unpacked(cursor, 1)[0], "CharField"))


def _unpacked(cursor: str, length: int) -> list[Any]:
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise _broken() from error
    if not isinstance(values, list) or len(values) != length:
        raise _broken()
    return values


def _broken() -> Problem:
    return Problem("invalid_parameter", "cursor: was not issued by this API; begin again without one")


def _typed(value: Any, kind: str) -> Any:
    try:
        if kind == "DateTimeField" and isinstance(value, str):
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is not None:
                return moment
        elif kind == "UUIDField" and isinstance(value, str):
            return UUID(value)
        elif kind in ("CharField", "TextField") and isinstance(value, str) and "\x00" not in value:
            return value.encode("utf-8").decode()
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return value
    except ValueError as error:
        raise _broken() from error
    raise _broken()
