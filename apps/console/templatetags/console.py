"""Filters and small components for the console's templates."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import template
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.console import formatting, icons

register = template.Library()

register.filter("duration", formatting.duration)
register.filter("usd", formatting.usd)
register.filter("number", formatting.number)
register.filter("percent", formatting.percent)
register.filter("size", formatting.size)

#: A word of the domain, the tone in which it is shown. Words say it, colour only helps.
TONES: Mapping[str, str] = {
    "ready": "ok",
    "connected": "ok",
    "active": "ok",
    "starting": "busy",
    "pending": "busy",
    "progressing": "busy",
    "deleting": "busy",
    "draining": "warn",
    "degraded": "warn",
    "unhealthy": "warn",
    "expired": "warn",
    "warning": "warn",
    "cordoned": "warn",
    "not placed": "bad",
    "not ready": "warn",
    "survives": "ok",
    "lost": "bad",
    "failed": "bad",
    "fenced": "bad",
    "disconnected": "bad",
    "error": "bad",
}


@register.simple_tag
def badge(word: str, tone: str = "") -> SafeString:
    """A state as a word with a shape and a colour."""
    return format_html('<span class="badge {}">{}</span>', tone or TONES.get(word.lower(), "idle"), word)


@register.filter
def when(moment: datetime | None) -> SafeString | str:
    """How long ago, with the exact moment (UTC) on hover and for machines."""
    if moment is None:
        return "never"
    exact = moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(),
        exact,
        formatting.ago(moment, timezone.now()),
    )


@register.filter
def words(identifier: str) -> str:
    """``on_demand`` as people write it."""
    return identifier.replace("_", " ")


@register.filter
def of(mapping: Mapping[Any, Any], key: Any) -> Any:
    """A member of a mapping; None without it."""
    return mapping.get(key)


@register.filter
def percent_of(part: float, whole: float) -> float:
    """``part`` of ``whole`` as a number from 0 to 100, for bars."""
    return round(min(100.0, 100.0 * part / whole), 1) if whole else 0.0


@register.simple_tag(takes_context=True)
def nav_link(context: Mapping[str, Any], section: str) -> SafeString | str:
    """``aria-current`` where the page belongs to this section of the navigation."""
    return format_html(' aria-current="{}"', "page") if context.get("section") == section else ""


@register.simple_tag(takes_context=True)
def query_with(context: Mapping[str, Any], **changes: Any) -> str:
    """The page's own query string with some parameters changed; None removes one."""
    request: HttpRequest = context["request"]
    query = request.GET.copy()
    for name, value in changes.items():
        query.pop(name, None)
        if value is not None:
            query[name] = str(value)
    return f"?{query.urlencode()}"


@register.simple_tag(takes_context=True)
def project_field(context: Mapping[str, Any]) -> SafeString:
    """For every form that writes: the project it is shown for, whatever other windows choose meanwhile."""
    return format_html('<input type="hidden" name="project" value="{}">', context["frame"].project.pk)


@register.simple_tag
def icon(name: str) -> SafeString:
    """A drawing beside a word, never instead of one, so it is hidden from screen readers."""
    return format_html(
        '<svg viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round"'
        ' stroke-linejoin="round" aria-hidden="true"><path d="{}"/></svg>',
        icons.PATHS[name],
    )


@register.filter
def pretty(document: Any) -> str:
    """A JSON document for people."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)
