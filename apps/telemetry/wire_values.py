"""What may be stored of what clusters say: an agent is trusted with its cluster, not with our columns. Pure."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

BIGINT_MAX = 2**63 - 1
INTEGER_MAX = 2**31 - 1
SMALLINT_MAX = 2**15 - 1

_EARLIEST_S = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_LATEST_S = datetime(2200, 1, 1, tzinfo=UTC).timestamp()


def uuid_or_none(text: str) -> UUID | None:
    """A UUID in its usual form, or None."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None


def moment(seconds: float) -> datetime:
    """Seconds since 1970 as a moment. Raises ValueError for one that nothing of ours can have lived in."""
    if not _EARLIEST_S <= seconds <= _LATEST_S:
        raise ValueError(f"{seconds} s since 1970 is not of this age")
    return datetime.fromtimestamp(seconds, UTC)


def text_for(value: str, characters: int) -> str:
    """Cut to what a column holds, without what PostgreSQL refuses (NUL, halves of surrogate pairs)."""
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()[:characters]


def is_name(value: str, characters: int) -> bool:
    """Whether a text can be stored as it is: not empty, not too long, nothing unprintable in it."""
    return 1 <= len(value) <= characters and value.isprintable()


def storable(value: Any) -> Any:
    """A struct of the wire as JSON that a jsonb column takes: PostgreSQL refuses the character NUL in it."""
    return msgspec.json.decode(msgspec.json.encode(value).replace(b"\\u0000", b"\\ufffd"))
