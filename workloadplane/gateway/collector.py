"""Where spans go and with which headers, by OpenTelemetry's own names in the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")


@dataclass(frozen=True, slots=True)
class Collector:
    """``url``: where it takes spans; ``None`` = nowhere. ``headers`` may hold its key: never shown."""

    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


NO_COLLECTOR = Collector()


def collector(endpoint: str | None, environment: Mapping[str, str]) -> Collector:
    """The collector that the command line names (without ``/v1/traces``), else the environment, else none.

    Raises ValueError for an address or a header that is not one.
    """
    for name, value, path in (
        ("--otlp-endpoint", endpoint, "/v1/traces"),
        (_TRACES_ENDPOINT, environment.get(_TRACES_ENDPOINT), ""),
        (_ENDPOINT, environment.get(_ENDPOINT), "/v1/traces"),
    ):
        if value:
            if not value.startswith(("http://", "https://")):
                raise ValueError(f"{name}: {value!r} is no http:// or https:// URL")
            return Collector(value.rstrip("/") + path if path else value, _headers(environment))
    return NO_COLLECTOR


def _headers(environment: Mapping[str, str]) -> dict[str, str]:
    """``name=value`` pairs, percent-encoded, separated by commas; the list for spans goes before the general one."""
    name = next((name for name in _HEADERS if environment.get(name)), "")
    headers = {}
    for pair in filter(str.strip, environment.get(name, "").split(",")):
        key, equals, value = (unquote(part.strip()) for part in pair.partition("="))
        sound = equals and key and key.isascii() and key.replace("-", "").replace("_", "").isalnum()
        if not sound or not (value.isascii() and value.isprintable()):
            raise ValueError(f"{name}: not a list of name=value pairs; write a,b as a%2Cb inside a value")
        headers[key.lower()] = value
    return headers
