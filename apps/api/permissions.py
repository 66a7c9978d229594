"""One permission for the whole API: the view says which right each method needs, the actor holds it or not."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.api.problems import Problem


class ScopedPermission(BasePermission):
    """Reads ``view.rights``. A method without a declared right is refused: forgetting it fails closed."""

    def has_permission(self, request: Request, view: Any) -> bool:
        actor = view.actor
        if actor is None:
            raise Problem(
                "unauthenticated",
                "send an API key as 'Authorization: Bearer mrd_...', or log in to the console",
            )
        right = view.rights.get("GET" if request.method == "HEAD" else request.method)
        if right is None:
            return request.method == "OPTIONS" or not hasattr(
                view, (request.method or "").lower()
            )  # 405 follows
        if right != "none" and not actor.holds(right):
            raise Problem("forbidden", f"this needs the right '{right}', which {actor} does not hold")
        return True
