"""ETags and ``If-Match``: a client that read an object changes it only if nobody else has since."""

import hashlib
import re
from typing import Any

import msgspec

from apps.api.problems import Problem, parameter_problem

_TAG = re.compile(r'(W/)?"[\x21\x23-\x7e]*"')


def etag_of_generation(generation: int) -> str:
    """For rows that carry a generation."""
    return f'"{generation}"'


def etag_of_document(document: Any) -> str:
    """For rows without one: a digest of what the client sees."""
    encoded = msgspec.json.encode(document, order="deterministic", enc_hook=str)
    return f'"{hashlib.sha256(encoded).hexdigest()[:32]}"'


def precondition_check(if_match: str | None, etag: str) -> None:
    """Call with the row locked. ``if_match`` is the header as it came, None if there was none.

    Raises Problem ``stale_etag`` (412) if the row is no longer what the client read, ``invalid_parameter`` (400) if the
    header is malformed. A weak tag never matches (RFC 9110).
    """
    if if_match is None or if_match.strip() == "*":
        return
    tags = [tag.strip() for tag in if_match.split(",")]
    if not all(_TAG.fullmatch(tag) for tag in tags):
        raise parameter_problem(
            "If-Match", "is not a list of quoted ETags", remedy='send it as it came: "..."'
        )
    if etag not in tags:
        raise Problem(
            "stale_etag",
            f"its ETag is now {etag}; read it again, then repeat the change",
            headers={"ETag": etag},
        )
