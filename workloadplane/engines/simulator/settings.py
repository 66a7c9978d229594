"""What a simulated engine is told when it starts: by arguments, and its key by the environment."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workloadplane.engines.simulator.batching import BatchModel
from workloadplane.engines.simulator.faults import Faults, faults_from_json

ENGINE_KEY_VARIABLE = "MERIDIAN_ENGINE_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``engine_key`` empty means that anyone who reaches the port may use it (for trials by hand)."""

    host: str
    port: int
    served_model: str
    engine_key: str = field(repr=False)
    max_context_tokens: int
    mean_output_tokens: int
    seed: int
    embedding_dimensions: int
    adapters: tuple[str, ...]
    kv_events: str
    max_loras: int
    adapter_load_s: float
    weight_load_s: float
    engine_start_s: float
    shutdown_timeout_s: float
    faults: Faults
    model: BatchModel


def parse_settings(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the command line. Exits with code 2 and one line on stderr where something is wrong."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        faults = faults_from_json(options.faults)
    except ValueError as error:
        parser.error(str(error))
    for name in _DURATIONS:
        if not 0 <= getattr(options, name) < 86_400:
            parser.error(f"--{name.replace('_', '-')}: {getattr(options, name)} is not in 0 ... 86400")
    if options.decode_step_s < 1e-5 or options.prefill_tokens_per_s <= 0:
        parser.error("--decode-step-s must be at least 0.00001 and --prefill-tokens-per-s positive")
    for name in _COUNTS:
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: {getattr(options, name)} is less than 1")
    return Settings(
        host=options.host,
        port=options.port,
        served_model=options.served_model_name,
        engine_key=environment.get(ENGINE_KEY_VARIABLE, ""),
        max_context_tokens=options.max_model_len,
        mean_output_tokens=options.mean_output_tokens,
        seed=options.seed,
        embedding_dimensions=options.embedding_dimensions,
        adapters=tuple(options.adapter),
        kv_events=options.kv_events,
        max_loras=options.max_loras,
        adapter_load_s=options.adapter_load_s,
        weight_load_s=options.weight_load_s,
        engine_start_s=options.engine_start_s,
        shutdown_timeout_s=options.shutdown_timeout_s,
        faults=faults,
        model=BatchModel(
            prefill_tokens_per_s=options.prefill_tokens_per_s,
            step_base_s=options.decode_step_s,
            step_per_sequence_s=options.decode_step_per_sequence_s,
            max_num_seqs=options.max_num_seqs,
            max_num_batched_tokens=options.max_num_batched_tokens,
            kv_capacity_tokens=options.kv_capacity_tokens,
            block_tokens=options.block_tokens,
        ),
    )


_DURATIONS = (
    "weight_load_s",
    "engine_start_s",
    "shutdown_timeout_s",
    "adapter_load_s",
    "decode_step_per_sequence_s",
)
_COUNTS = (
    "max_model_len",
    "mean_output_tokens",
    "embedding_dimensions",
    "max_loras",
    "max_num_seqs",
    "max_num_batched_tokens",
    "kv_capacity_tokens",
    "block_tokens",
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workloadplane.engines.simulator",
        description="An OpenAI-compatible engine without weights: a model of continuous batching.",
        epilog=f"The key that requests must carry is read from the environment: {ENGINE_KEY_VARIABLE}.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0 chooses a free one and prints it (default)")
    add("--served-model-name", default="simulated")
    add("--max-model-len", type=int, default=8192, help="prompt and answer together, in tokens")
    add("--max-num-seqs", type=int, default=64, help="sequences in one batch")
    add("--max-num-batched-tokens", type=int, default=2048, help="tokens computed in one step")
    add("--kv-capacity-tokens", type=int, default=131072)
    add("--block-tokens", type=int, default=16, help="tokens of one KV block")
    add("--prefill-tokens-per-s", type=float, default=20_000.0)
    add("--decode-step-s", type=float, default=0.008, help="a step with an empty batch")
    add("--decode-step-per-sequence-s", type=float, default=0.0001, help="what each sequence adds")
    add("--mean-output-tokens", type=int, default=64, help="of answers that end by themselves")
    add("--embedding-dimensions", type=int, default=64)
    add("--adapter", action="append", default=[], help="a LoRA adapter, by the model's name that asks for it")
    add("--max-loras", type=int, default=4, help="adapters loaded at once")
    add("--adapter-load-s", type=float, default=0.05, help="the engine stands still while it loads one")
    add("--kv-events", default="", metavar="ADDRESS", help="publish KV events there, as vLLM does (ZeroMQ)")
    add("--seed", type=int, default=0, help="another seed is another model")
    add("--weight-load-s", type=float, default=0.0, help="simulated time before the port opens")
    add("--engine-start-s", type=float, default=0.0, help="simulated time after that, still before it opens")
    add("--shutdown-timeout-s", type=float, default=0.0, help="what running requests may take after SIGTERM")
    add("--faults", default="{}", help="failure switches as JSON")
    return parser
