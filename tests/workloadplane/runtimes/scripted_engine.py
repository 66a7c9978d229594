"""An engine for tests of the runtime: a Python script of one's own, with the probe of nobody."""

import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from workloadplane.engines.base import (
    EngineCommand,
    EngineEndpoint,
    EngineMetrics,
    EnginePlace,
    EngineReplica,
    Readiness,
)
from workloadplane.protocol.observed import ColdStart
from workloadplane.protocol.refusal import Refusal


class ScriptedEngine:
    """Runs ``arguments["script"]`` with the port and the key in its environment."""

    name = "scripted"
    start_timeout_s = 10.0

    def interpreter(self, engines_dir: Path, version: str) -> Path | Refusal:
        if version == "missing":
            return Refusal(rule="engine_installed", subject="scripted", value=version, remedy="install it")
        return Path(sys.executable) if version != "broken" else engines_dir / "no-such-program"

    def check_arguments(self, arguments: Mapping[str, str]) -> Refusal | None:
        return None

    def command(self, replica: EngineReplica, place: EnginePlace) -> EngineCommand | Refusal:
        return EngineCommand(
            argv=(place.interpreter, "-c", replica.arguments["script"]),
            environment={"PORT": str(place.port)},
            secrets={"KEY": replica.engine_key},
        )

    async def probe(
        self, client: httpx.AsyncClient, endpoint: EngineEndpoint, *, timeout_s: float
    ) -> Readiness:
        raise NotImplementedError

    async def scrape(self, client: httpx.AsyncClient, endpoint: EngineEndpoint) -> EngineMetrics | Refusal:
        raise NotImplementedError

    def starting_phase(self, log: str) -> str:
        raise NotImplementedError

    def cold_start(self, log: str, *, wall_s: float) -> ColdStart:
        raise NotImplementedError


ENGINE = ScriptedEngine()
