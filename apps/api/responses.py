"""The few shapes of a good answer."""

from typing import Any

from rest_framework.response import Response


def found(document: Any, *, etag: str | None = None) -> Response:
    """200 with the object and its ETag."""
    return Response(document, headers={"ETag": etag} if etag else None)


def created(document: Any, *, location: str, etag: str | None = None, status: int = 201) -> Response:
    """201 (or 202) with the object, its address and its ETag."""
    headers = {"Location": location} | ({"ETag": etag} if etag else {})
    return Response(document, status=status, headers=headers)


def gone() -> Response:
    """204."""
    return Response(status=204)
