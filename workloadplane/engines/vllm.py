"""vLLM, in an environment of its own: ``<engines_dir>/vllm-<version>``, as an engine is an image in production.

Started as a module, because the ``vllm`` command needs package metadata that its CPU builds lack. What it
tells on its log about loading and warming up is read here for the phases of a cold start.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

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
from workloadplane.protocol.engine_arguments import ALLOWED, CPU_KV_CACHE, check_arguments, sequences_max
from workloadplane.protocol.observed import ColdStart
from workloadplane.protocol.refusal import Refusal

_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,40}")
# The catalog's names first, then vLLM's own.
_DTYPES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
    "float32": "float32",
}
# Weights that bring their own number format: vLLM reads it from their configuration.
_QUANTIZED = frozenset({"fp8", "int8", "int4", "fp4", "mxfp4", "nvfp4"})

# Ranks that it allows an engine to be made for.
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)

# vLLM fetches the pictures that a chat request names by URL, from wherever the engine can reach. An empty list would
# allow every host; this name can belong to none (RFC 6761). Pictures in the request itself (data:) need no fetching.
_NO_HOST = "media.invalid"

# Each is the first sign in the log that the engine has got so far.
_LOADING_BEGINS = re.compile(r"Starting to load model ")
# On a GPU the first is logged too, and includes building the model; on a CPU only the second.
_LOADED = re.compile(r"(?:Model loading took [^\n]*? |Loading weights took )([0-9.]+) seconds")


class VllmEngine:
    """An ``Engine``."""

    name = "vllm"
    # A first start in a fresh environment takes over two minutes on two cores.
    start_timeout_s = 300.0

    def interpreter(self, engines_dir: Path, version: str) -> Path | Refusal:
        """The environment of exactly this version."""
        if not _VERSION.fullmatch(version):
            return _refusal("engine_version", "engine version", version, "give a version such as 0.32.0")
        python = engines_dir / f"vllm-{version}" / "bin" / "python"
        if not python.exists():
            return _refusal(
                "engine_installed", f"vllm {version}", f"no {python}", "make this version's environment there"
            )
        return python

    def check_arguments(self, arguments: Mapping[str, str]) -> Refusal | None:
        """As the wire lists them for all."""
        return next(iter(check_arguments(ALLOWED[self.name], arguments)), None)

    def command(self, replica: EngineReplica, place: EnginePlace) -> EngineCommand | Refusal:
        """The API server, quiet and offline. The key is in the environment, where other users cannot read it."""
        refusal = self.check_arguments(replica.arguments)
        if refusal is not None:
            return refusal
        model = _local_path(replica.source_uri)
        if isinstance(model, Refusal):
            return model
        dtype = _DTYPES.get(replica.precision) or ("auto" if replica.precision in _QUANTIZED else None)
        if dtype is None:
            known = ", ".join((*_DTYPES, *sorted(_QUANTIZED)))
            return _refusal("engine_precision", "precision", replica.precision, f"use one of: {known}")
        adapters = _adapter_options(replica)
        if isinstance(adapters, Refusal):
            return adapters
        arguments = dict(replica.arguments)
        arguments.pop("max_loras", None)
        cpu_kv_cache_gib = arguments.pop(CPU_KV_CACHE, "1")
        arguments["max_num_seqs"] = str(sequences_max(self.name, arguments))
        argv = (
            place.interpreter,
            "-m",
            "vllm.entrypoints.openai.api_server",
            f"--model={model}",
            f"--served-model-name={replica.served_model}",
            f"--host={place.host}",
            f"--port={place.port}",
            f"--dtype={dtype}",
            f"--max-model-len={replica.max_context_tokens}",
            f"--shutdown-timeout={max(1, round(replica.shutdown_timeout_s))}",
            "--enable-prompt-tokens-details",
            f"--allowed-media-domains={_NO_HOST}",
            # Neither prompts nor a line per request: the gateway keeps the access log.
            "--no-enable-log-requests",
            "--disable-uvicorn-access-log",
            *as_options(arguments),
            *_kv_event_options(replica, place),
            *adapters,
        )
        return EngineCommand(
            argv=argv,
            environment=_environment(place, cpu_kv_cache_gib),
            secrets={"VLLM_API_KEY": replica.engine_key},
        )

    async def probe(
        self, client: httpx.AsyncClient, endpoint: EngineEndpoint, *, timeout_s: float
    ) -> Readiness:
        """One token."""
        return await openai_http.probe_for_token(client, endpoint, timeout_s=timeout_s)

    async def scrape(self, client: httpx.AsyncClient, endpoint: EngineEndpoint) -> EngineMetrics | Refusal:
        """Its own names."""
        return await openai_http.scrape_vllm_metrics(client, endpoint)

    def starting_phase(self, log: str) -> str:
        """``weight_load`` while the weights are being loaded; before and after it the engine itself is at work."""
        loading = _LOADING_BEGINS.search(log) is not None and _LOADED.search(log) is None
        return "weight_load" if loading else "engine_start"

    def cold_start(self, log: str, *, wall_s: float) -> ColdStart:
        """Loading as vLLM measured it; all else (imports, compilation, KV cache, first token) is its start."""
        loaded = _LOADED.findall(log)
        if not loaded:
            return ColdStart(engine_start_s=wall_s)
        # Several workers load side by side, so the slowest counts.
        weight_load_s = min(wall_s, max(float(seconds) for seconds in loaded))
        return ColdStart(weight_load_s=weight_load_s, engine_start_s=wall_s - weight_load_s)


def _environment(place: EnginePlace, cpu_kv_cache_gib: str) -> dict[str, str]:
    cache_root = Path(place.cache_dir) / "vllm"
    return {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_CACHE_ROOT": str(cache_root),
        # On a CPU vLLM leaves this one to torch, which would put it under /tmp.
        "TORCHINDUCTOR_CACHE_DIR": str(cache_root / "inductor"),
        # The ahead-of-time artefact fails to load on CPU and costs a warm start six seconds.
        "VLLM_USE_AOT_COMPILE": "0",
        "VLLM_CPU_KVCACHE_SPACE": cpu_kv_cache_gib,
        # By default every engine of a machine pins itself to the same cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
    }


def _kv_event_options(replica: EngineReplica, place: EnginePlace) -> list[str]:
    if not place.kv_events or replica.arguments.get("enable_prefix_caching") == "false":
        return []
    events = {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": place.kv_events}
    return [f"--kv-events-config={json.dumps(events, separators=(',', ':'))}"]


def _adapter_options(replica: EngineReplica) -> list[str] | Refusal:
    """All adapters are declared at the start; the engine keeps the latest in its slots and the others in memory."""
    if not replica.adapters:
        return []
    modules = []
    for adapter in replica.adapters:
        path = _local_path(adapter.source_uri)
        if isinstance(path, Refusal):
            return path
        module = {"name": adapter.served_model, "path": path, "base_model_name": replica.served_model}
        modules.append(json.dumps(module, separators=(",", ":")))
    wanted = max(adapter.rank for adapter in replica.adapters)
    rank = next((rank for rank in _LORA_RANKS if rank >= wanted), _LORA_RANKS[-1])
    return [
        "--enable-lora",
        f"--max-loras={replica.adapter_slots}",
        f"--max-cpu-loras={len(modules)}",
        f"--max-lora-rank={rank}",
        "--lora-modules",
        *modules,
    ]


def _local_path(source_uri: str) -> str | Refusal:
    parts = urlsplit(source_uri)
    path = unquote(parts.path)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not path.startswith("/"):
        return _refusal(
            "model_source",
            "source_uri",
            source_uri,
            "give weights that lie beside the engine: file:///a/folder",
        )
    return path


def _refusal(rule: str, subject: str, value: str, remedy: str) -> Refusal:
    return Refusal(rule=rule, subject=subject, value=value, remedy=remedy)


ENGINE = VllmEngine()
