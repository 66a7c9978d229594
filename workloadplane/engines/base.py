"""What Meridian must know of an inference engine, whichever one it is.

A runtime (``workloadplane.runtimes``) knows how to start, watch and stop something; an engine knows what to
start and how to talk to it. They meet in two types: the runtime makes an ``EnginePlace`` (port, interpreter,
directories) and the engine answers with an ``EngineCommand`` (program and environment). So one engine serves
every runtime, and a further engine is one module that implements ``Engine`` and one line in
``workloadplane.engines``.

All that is asked of a running engine goes through an ``EngineEndpoint`` over HTTP. Its answers are evidence, not
truth: ``probe`` counts only a generated token, ``scrape`` gives ``None`` for what the engine does not tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx

from workloadplane.protocol.observed import ColdStart
from workloadplane.protocol.refusal import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAdapter:
    """A LoRA adapter. ``served_model``: what asks for it."""

    served_model: str
    source_uri: str
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReplica:
    """What one replica serves: the same in every runtime.

    served_model:       the deployment's name; what clients send as ``model``
    source_uri:         where the weights are (``file:///...``); the simulator ignores it
    precision:          as in the catalog: ``bf16`` | ``fp16`` | ``fp32`` ...
    max_context_tokens: prompt and answer together
    arguments:          from the engine image; must pass the engine's ``check_arguments``
    engine_key:         the key that this replica alone accepts; never on a command line
    adapters:           all that it must be able to serve; ``adapter_slots`` of them loaded at once
    shutdown_timeout_s: how long running requests may take after SIGTERM
    """

    served_model: str
    source_uri: str
    precision: str
    max_context_tokens: int
    engine_version: str
    arguments: Mapping[str, str]
    engine_key: str = field(repr=False)
    shutdown_timeout_s: float
    adapters: tuple[EngineAdapter, ...] = ()
    adapter_slots: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlace:
    """Where a runtime lets a replica run.

    interpreter: the Python of the engine's own environment, as seen from inside
    kv_events:   where to publish KV events (an address of ZeroMQ); empty = nowhere
    cache_dir:   kept between replicas of this cluster: compile caches; each engine uses a folder of its own
    """

    host: str
    port: int
    interpreter: str
    cache_dir: str
    kv_events: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCommand:
    """A program to run. ``secrets`` are environment variables too, but never printed nor put into a manifest."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEndpoint:
    """How to reach one replica. ``kv_events``: where it publishes what happens in its KV cache, if it does."""

    host: str
    port: int
    served_model: str
    engine_key: str = field(repr=False)
    kv_events: str = ""

    @property
    def base_url(self) -> str:
        """``http://host:port`` without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The answer to a probe. ``ready`` means that a token was generated; else ``reason`` says what was seen.

    reason: ``ready`` | ``connection_refused`` | ``timeout`` | ``http_status`` | ``no_token`` |
            ``connection_lost``
    """

    ready: bool
    reason: str
    message: str
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMetrics:
    """One scrape, in Meridian's words. ``None`` = the engine does not tell (or told NaN), which is never zero.

    Counters (``_total``) count from the engine's start. ``kv_cache_usage`` is a share in [0, 1]. ``*_s_sum`` and
    ``*_count`` are the halves of a mean between two scrapes.
    """

    running: int | None = None
    waiting: int | None = None
    kv_cache_usage: float | None = None
    kv_capacity_tokens: int | None = None
    prompt_tokens_total: int | None = None
    generation_tokens_total: int | None = None
    prefix_cache_queries_total: int | None = None  # tokens
    prefix_cache_hits_total: int | None = None  # tokens
    preemptions_total: int | None = None
    requests_finished_total: int | None = None
    requests_aborted_total: int | None = None
    ttft_s_sum: float | None = None
    ttft_count: int | None = None
    inter_token_latency_s_sum: float | None = None
    inter_token_latency_count: int | None = None


class Engine(Protocol):
    """An inference engine. Implementations hold no state: one object serves all replicas."""

    @property
    def name(self) -> str:
        """As in the catalog: ``vllm``, ``simulator`` ..."""

    @property
    def start_timeout_s(self) -> float:
        """After this long without a first token a start has failed; errs on the patient side."""

    def interpreter(self, engines_dir: Path, version: str) -> Path | Refusal:
        """The Python of this engine's environment on this machine, or why there is none."""

    def check_arguments(self, arguments: Mapping[str, str]) -> Refusal | None:
        """``None`` if each argument is on the engine's allow-list and has a sane value; else which is not."""

    def command(self, replica: EngineReplica, place: EnginePlace) -> EngineCommand | Refusal:
        """The program that serves ``replica`` at ``place``."""

    async def probe(
        self, client: httpx.AsyncClient, endpoint: EngineEndpoint, *, timeout_s: float
    ) -> Readiness:
        """Ask for one token. Never raises for what the engine does."""

    async def scrape(self, client: httpx.AsyncClient, endpoint: EngineEndpoint) -> EngineMetrics | Refusal:
        """Read the metrics once; at most a second."""

    def starting_phase(self, log: str) -> str:
        """The cold-start phase that a replica with this log so far is in: ``weight_load`` or
        ``engine_start``.
        """

    def cold_start(self, log: str, *, wall_s: float) -> ColdStart:
        """Split the time from spawn to first token into phases by the engine's own log.

        ``log`` may be a tail. The phases given sum to ``wall_s``; a phase that was not passed stays ``None``.
        """
