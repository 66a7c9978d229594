"""Ids as tables show them: their beginning, as far as it is no other's."""

from meridian.client import Client
from meridian.errors import NotFound, UsageError

_WHOLE_CHARS = 36


def id_begun(client: Client, path: str, shown: str, *, kind: str, listed_by: str) -> str:
    """The whole id, of those under ``path``, that begins with what was ``shown``. Raises NotFound, UsageError.

    kind, listed_by: what it is of, and the command that lists them
    """
    if len(shown) >= _WHOLE_CHARS:
        return shown
    found = [str(row["id"]) for row in client.items(path) if str(row["id"]).startswith(shown)]
    if not found:
        raise NotFound(f"no {kind} {shown}; `{listed_by}` lists them")
    if len(found) > 1:
        raise UsageError(f"several ids of {kind}s begin with {shown}; give more of it")
    return found[0]
