"""The simulator seen from outside, as an ``Engine``: how the agent starts one and reads it."""

import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import msgspec

from workloadplane.engines import openai_http
from workloadplane.engines.arguments import as_options
from workloadplane.engines.base import (
    EngineCommand,
    EngineEndpoint,
    EngineMetrics,
    EnginePlace,
    EngineReplica,
    Readiness,
)
from workloadplane.engines.simulator.faults import faults_from_json
from workloadplane.engines.simulator.settings import ENGINE_KEY_VARIABLE
from workloadplane.protocol.engine_arguments import ALLOWED, ArgumentRule, check_arguments
from workloadplane.protocol.observed import ColdStart
from workloadplane.protocol.refusal import Refusal

# The folder that holds the package ``workloadplane``, installed or not.
_PACKAGE_ROOT = Path(__file__).resolve().parents[3]


class _FaultSwitches:
    """Failure switches as JSON."""

    remedy = 'give failure switches as a JSON object, such as {"crash_after_tokens": 20}'

    def allows(self, value: str) -> bool:
        """As the engine itself reads them."""
        try:
            faults_from_json(value)
        except ValueError:
            return False
        return True


# The agent alone may set failure switches: the catalog lists none.
_RULES: Mapping[str, ArgumentRule] = {**ALLOWED["simulator"], "faults": _FaultSwitches()}


class SimulatorEngine:
    """An ``Engine``."""

    name = "simulator"
    start_timeout_s = 60.0

    def interpreter(self, engines_dir: Path, version: str) -> Path | Refusal:
        """It runs in the agent's own environment."""
        return Path(sys.executable)

    def check_arguments(self, arguments: Mapping[str, str]) -> Refusal | None:
        """See ``_RULES``."""
        return next(iter(check_arguments(_RULES, arguments)), None)

    def command(self, replica: EngineReplica, place: EnginePlace) -> EngineCommand | Refusal:
        """The module of this package."""
        refusal = self.check_arguments(replica.arguments)
        if refusal is not None:
            return refusal
        arguments = dict(replica.arguments)
        if replica.adapters:
            arguments["max_loras"] = str(replica.adapter_slots)
        argv = (
            place.interpreter,
            "-m",
            "workloadplane.engines.simulator",
            f"--host={place.host}",
            f"--port={place.port}",
            f"--served-model-name={replica.served_model}",
            f"--max-model-len={replica.max_context_tokens}",
            f"--shutdown-timeout-s={replica.shutdown_timeout_s:g}",
            *as_options(arguments),
            *([f"--kv-events={place.kv_events}"] if place.kv_events else []),
            *(f"--adapter={adapter.served_model}" for adapter in replica.adapters),
        )
        return EngineCommand(
            argv=argv,
            environment={"PYTHONPATH": str(_PACKAGE_ROOT)},
            secrets={ENGINE_KEY_VARIABLE: replica.engine_key},
        )

    async def probe(
        self, client: httpx.AsyncClient, endpoint: EngineEndpoint, *, timeout_s: float
    ) -> Readiness:
        """One token."""
        return await openai_http.probe_for_token(client, endpoint, timeout_s=timeout_s)

    async def scrape(self, client: httpx.AsyncClient, endpoint: EngineEndpoint) -> EngineMetrics | Refusal:
        """It has vLLM's names."""
        return await openai_http.scrape_vllm_metrics(client, endpoint)

    def starting_phase(self, log: str) -> str:
        """It loads weights only if told to, and then says when it is done."""
        events = _events(log)
        return "engine_start" if "weights_loaded" in events or "ready" in events else "weight_load"

    def cold_start(self, log: str, *, wall_s: float) -> ColdStart:
        """Weights as logged, the rest is the engine's start."""
        weight_load_s = _events(log).get("weights_loaded")
        if weight_load_s is None:
            return ColdStart(engine_start_s=wall_s)
        weight_load_s = min(weight_load_s, wall_s)
        return ColdStart(weight_load_s=weight_load_s, engine_start_s=wall_s - weight_load_s)


def _events(log: str) -> dict[str, float]:
    events: dict[str, float] = {}
    for line in log.splitlines():
        if not line.startswith('{"event":'):
            continue
        try:
            entry = msgspec.json.decode(line)
            events[str(entry["event"])] = float(entry.get("seconds", 0.0))
        except (msgspec.DecodeError, ValueError, TypeError):
            continue
    return events


ENGINE = SimulatorEngine()
