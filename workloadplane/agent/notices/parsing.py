"""What a notice file and each provider's metadata service answer, as notices. Pure.

Sources, as of 2025: AWS "Spot Instance interruption notices" (EC2 user guide), Google Cloud "Preemptible and Spot VMs"
and "Handle GPU host maintenance events" (Compute Engine), Azure "Scheduled Events for Linux VMs" (Virtual Machines).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from workloadplane.protocol.observed import Notice
from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted

#: So long before it takes an instance back does each provider say so, in seconds. A clock of ours that is behind makes
#: none of AWS longer. A GPU instance of Google's is told of its host's maintenance an hour before.
AWS_S: Final = 120.0
GCP_S: Final = 30.0
GCP_MAINTENANCE_S: Final = 3600.0
NOTICES_MAX: Final = 256
_NAME_CHARS_MAX: Final = 127
_REASON_CHARS_MAX: Final = 255
#: Events of Azure after which the machine is not there any more.
_AZURE_TAKES: Final = frozenset({"Preempt", "Terminate"})


@dataclass(frozen=True, slots=True)
class Place:
    """What an endpoint speaks of. ``node`` None: a pool of one machine, or what the answer names."""

    pool: str
    node: str | None


class _FileNotice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pool: str
    deadline_at: datetime | float
    node: str | None = None
    reason: str = "a notice file says so"
    provider: str = "file"


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    notices: list[_FileNotice]


class _AwsAction(msgspec.Struct, frozen=True, kw_only=True):
    action: str
    time: datetime


class _AzureEvent(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    event_type: str
    resources: tuple[str, ...] = ()
    not_before: str = ""
    description: str = ""


class _AzureAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    events: list[_AzureEvent] = []


def file_notices(content: bytes) -> tuple[Notice, ...] | Refusal:
    """``{"notices": [{"pool", "node", "deadline_at", "reason", "provider"}]}``; all but the first and third optional.

    A deadline is ISO 8601 with its time zone, or seconds since 1970.
    """
    subject = "notice file"
    try:
        found = msgspec.json.decode(content, type=_File).notices
    except (msgspec.DecodeError, RecursionError) as error:
        return _malformed(subject, str(error), 'write {"notices": [{"pool": …, "deadline_at": …}]}')
    if len(found) > NOTICES_MAX:
        return _malformed(subject, f"{counted(len(found), 'notice')}", f"write at most {NOTICES_MAX}")
    notices = []
    for each in found:
        moment = _seconds(each.deadline_at)
        if moment is None:
            return _malformed(subject, f"deadline_at {each.deadline_at}", "write it with its time zone")
        if not (each.pool and _is_name(each.pool) and (each.node is None or _is_name(each.node))):
            return _malformed(
                subject, f"pool {each.pool[:80]!r}, node {(each.node or '')[:80]!r}", "write names"
            )
        notices.append(_notice(Place(each.pool, each.node), moment, each.reason, each.provider))
    return tuple(notices)


def aws_notices(body: bytes, place: Place, *, seen_at: float) -> tuple[Notice, ...] | Refusal:
    """The answer 200 of ``spot/instance-action``: ``{"action": "terminate", "time": "2030-01-01T00:00:00Z"}``."""
    try:
        told = msgspec.json.decode(body, type=_AwsAction)
    except (msgspec.DecodeError, RecursionError) as error:
        return _malformed("answer of the metadata service (aws)", str(error), "")
    moment = _seconds(told.time)
    deadline_at = seen_at + AWS_S if moment is None else min(moment, seen_at + AWS_S)
    return (_notice(place, deadline_at, f"spot capacity is taken back: {told.action}", "aws"),)


def gcp_notices(
    preempted: bytes, maintenance: bytes, place: Place, *, seen_at: float
) -> tuple[Notice, ...] | Refusal:
    """The answers of ``instance/preempted`` and ``instance/maintenance-event``.

    No time is in them: it counts from when they were first seen.
    """
    was_preempted, event = preempted.strip(), maintenance.strip()
    if was_preempted not in (b"TRUE", b"FALSE"):
        text = was_preempted[:80].decode(errors="replace")
        return _malformed("answer of the metadata service (gcp)", text, "")
    if was_preempted == b"TRUE":
        return (_notice(place, seen_at + GCP_S, "spot capacity is taken back: preempted", "gcp"),)
    if event.startswith(b"TERMINATE"):
        return (_notice(place, seen_at + GCP_MAINTENANCE_S, "its host is to be maintained", "gcp"),)
    return ()


def azure_notices(body: bytes, place: Place, *, seen_at: float) -> tuple[Notice, ...] | Refusal:
    """The document of scheduled events. It speaks of all machines of a scale set, by name: each is a node.

    One that has begun has no ``NotBefore`` any more. Where ``place`` names a node, only what concerns that one counts.
    """
    try:
        told = msgspec.json.decode(body, type=_AzureAnswer)
    except (msgspec.DecodeError, RecursionError) as error:
        return _malformed("answer of the metadata service (azure)", str(error), "")
    found: list[Notice] = []
    for event in told.events:
        if event.event_type in _AZURE_TAKES:
            deadline_at = _http_date(event.not_before, seen_at)
            if deadline_at is None:
                return _malformed("answer of the metadata service (azure)", event.not_before[:80], "")
            reason = f"capacity is taken back: {event.event_type}"
            found += [_notice(each, deadline_at, reason, "azure") for each in _azure_places(event, place)]
    return tuple(found[:NOTICES_MAX])


def _azure_places(event: _AzureEvent, place: Place) -> Iterator[Place]:
    for resource in event.resources:
        if _is_name(resource) and place.node in (None, resource):
            yield Place(place.pool, resource)


def _http_date(text: str, begun_at: float) -> float | None:
    if not text:
        return begun_at
    try:
        return _seconds(parsedate_to_datetime(text))
    except ValueError:
        return None


def _seconds(moment: datetime | float) -> float | None:
    """Since 1970; None for what is no moment of this world."""
    if isinstance(moment, datetime):
        return None if moment.tzinfo is None else moment.astimezone(UTC).timestamp()
    return float(moment) if math.isfinite(moment) and 0 < moment < 1e11 else None


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _NAME_CHARS_MAX and text.isprintable()


def _notice(place: Place, deadline_at: float, reason: str, provider: str) -> Notice:
    return Notice(
        pool=place.pool,
        node=place.node,
        deadline_at=deadline_at,
        reason=reason[:_REASON_CHARS_MAX],
        provider=provider[:16],
    )


def _malformed(subject: str, value: str, remedy: str) -> Refusal:
    return Refusal(
        rule="notice_readable",
        subject=subject,
        value=value[:200],
        remedy=remedy or "look whether the endpoint's provider and address are right",
    )
