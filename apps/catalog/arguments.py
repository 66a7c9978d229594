"""Which arguments an engine image may set. Pure.

An engine's command line can load foreign code (``trust_remote_code``), open ports and write files, so only what is
listed here enters the catalog. The agent checks once more before it starts a replica.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from workloadplane.protocol.refusal import Refusal


@dataclass(frozen=True)
class Argument:
    """What one argument may be, and that in words."""

    allows: Callable[[str], bool]
    remedy: str


def _whole(least: int, most: int) -> Argument:
    return Argument(
        lambda text: bool(re.fullmatch(r"\d{1,18}", text, re.ASCII)) and least <= int(text) <= most,
        f"give a whole number from {least} to {most}",
    )


def _number(least: float, most: float) -> Argument:
    pattern = r"\d{1,12}(\.\d{1,12})?([eE]-?\d{1,2})?"
    return Argument(
        lambda text: bool(re.fullmatch(pattern, text, re.ASCII)) and least <= float(text) <= most,
        f"give a number from {least:g} to {most:g}",
    )


def _one_of(*values: str) -> Argument:
    return Argument(lambda text: text in values, f"give one of: {', '.join(values)}")


_SWITCH = _one_of("true", "false")

ALLOWED: Mapping[str, Mapping[str, Argument]] = {
    "vllm": {
        "block_size": _one_of("8", "16", "32", "64", "128"),
        "cpu_kv_cache_gib": _whole(1, 1024),
        "enable_auto_tool_choice": _SWITCH,
        "enable_chunked_prefill": _SWITCH,
        "enable_prefix_caching": _SWITCH,
        "enforce_eager": _SWITCH,
        "gpu_memory_utilization": _number(0.05, 0.98),
        "kv_cache_dtype": _one_of("auto", "fp8", "fp8_e4m3", "fp8_e5m2"),
        "max_num_batched_tokens": _whole(1, 10**6),
        "max_num_seqs": _whole(1, 10**4),
        "pipeline_parallel_size": _whole(1, 64),
        "quantization": _one_of(
            "awq", "awq_marlin", "compressed-tensors", "fp8", "gptq", "gptq_marlin", "modelopt"
        ),
        "reasoning_parser": _one_of("deepseek_r1", "granite", "qwen3"),
        "seed": _whole(0, 2**31),
        "tensor_parallel_size": _whole(1, 64),
        "tool_call_parser": _one_of("granite", "hermes", "llama3_json", "mistral", "pythonic"),
    },
    "simulator": {
        "block_tokens": _whole(1, 1024),
        "decode_step_per_sequence_s": _number(0, 60),
        "decode_step_s": _number(1e-5, 60),
        "embedding_dimensions": _whole(1, 4096),
        "engine_start_s": _number(0, 3600),
        "kv_capacity_tokens": _whole(1, 10**9),
        "max_num_batched_tokens": _whole(1, 10**6),
        "max_num_seqs": _whole(1, 10**5),
        "mean_output_tokens": _whole(1, 10**6),
        "prefill_tokens_per_s": _number(1, 1e9),
        "seed": _whole(0, 2**31),
        "weight_load_s": _number(0, 3600),
    },
    "sglang": {},
    "tensorrt_llm": {},
    "nim": {},
}


def arguments_check(engine: str, arguments: Mapping[str, str]) -> tuple[Refusal, ...]:
    """A refusal for each argument that is not allowed; ``subject`` is its name."""
    allowed = ALLOWED.get(engine, {})
    refusals = []
    for name, value in sorted(arguments.items()):
        rule = allowed.get(name)
        if rule is None:
            known = ", ".join(sorted(allowed)) or "none"
            refusals.append(
                _refusal("engine_argument_allowed", name, value, f"allowed for {engine} are: {known}")
            )
        elif not rule.allows(value):
            refusals.append(_refusal("engine_argument_value", name, value, rule.remedy))
    return tuple(refusals)


def _refusal(rule: str, name: str, value: str, remedy: str) -> Refusal:
    return Refusal(rule=rule, subject=name, value=value[:80], remedy=remedy)
