"""Which arguments an engine image may set, and to what.

An engine's command line can load foreign code, open ports and write files, so nothing gets on it that is not
listed here by its engine. The catalog asks before it stores an image, the agent again before it starts a
replica. Left out on purpose: ``trust_remote_code`` and everything that opens a port, a file or an address. Pure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from workloadplane.protocol.refusal import Refusal


class ArgumentRule(Protocol):
    """What one argument may be."""

    def allows(self, value: str) -> bool:
        """Whether ``value``, as written in the catalog, is fine."""

    @property
    def remedy(self) -> str:
        """What would be fine, in words."""


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """From ``least`` to ``most``."""

    least: int
    most: int

    def allows(self, value: str) -> bool:
        """Decimal digits, perhaps a minus, inside the bounds."""
        digits = value.removeprefix("-")
        return (
            digits.isascii()
            and digits.isdigit()
            and len(digits) <= 18
            and self.least <= int(value) <= self.most
        )

    @property
    def remedy(self) -> str:
        """In words."""
        return f"give a whole number from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class Number:
    """From ``least`` to ``most``; never NaN."""

    least: float
    most: float

    def allows(self, value: str) -> bool:
        """A finite number inside the bounds."""
        try:
            number = float(value)
        except ValueError:
            return False
        return math.isfinite(number) and self.least <= number <= self.most

    @property
    def remedy(self) -> str:
        """In words."""
        return f"give a number from {self.least:g} to {self.most:g}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these."""

    values: tuple[str, ...]

    def allows(self, value: str) -> bool:
        """Exactly as written here."""
        return value in self.values

    @property
    def remedy(self) -> str:
        """In words."""
        return f"give one of: {', '.join(self.values)}"


SWITCH = OneOf(("true", "false"))


#: vLLM takes it from its environment, not from its command line.
CPU_KV_CACHE = "cpu_kv_cache_gib"

ALLOWED: Mapping[str, Mapping[str, ArgumentRule]] = {
    "vllm": {
        "block_size": OneOf(("8", "16", "32", "64", "128")),
        CPU_KV_CACHE: WholeNumber(1, 1024),
        "enable_auto_tool_choice": SWITCH,
        "enable_chunked_prefill": SWITCH,
        "enable_prefix_caching": SWITCH,
        "enforce_eager": SWITCH,
        "gpu_memory_utilization": Number(0.05, 0.98),
        "kv_cache_dtype": OneOf(("auto", "fp8", "fp8_e4m3", "fp8_e5m2")),
        "max_loras": WholeNumber(1, 256),
        "max_num_batched_tokens": WholeNumber(1, 10**6),
        "max_num_seqs": WholeNumber(1, 10**4),
        "pipeline_parallel_size": WholeNumber(1, 64),
        "quantization": OneOf(
            ("awq", "awq_marlin", "compressed-tensors", "fp8", "gptq", "gptq_marlin", "modelopt")
        ),
        "reasoning_parser": OneOf(("deepseek_r1", "granite", "qwen3")),
        "seed": WholeNumber(0, 2**31),
        "tensor_parallel_size": WholeNumber(1, 64),
        "tool_call_parser": OneOf(("granite", "hermes", "llama3_json", "mistral", "pythonic")),
    },
    "simulator": {
        "adapter_load_s": Number(0, 60),
        "block_tokens": WholeNumber(1, 1024),
        "decode_step_per_sequence_s": Number(0, 60),
        "decode_step_s": Number(1e-5, 60),
        "embedding_dimensions": WholeNumber(1, 4096),
        "engine_start_s": Number(0, 3600),
        "kv_capacity_tokens": WholeNumber(1, 10**9),
        "max_loras": WholeNumber(1, 256),
        "max_num_batched_tokens": WholeNumber(1, 10**6),
        "max_num_seqs": WholeNumber(1, 10**5),
        "mean_output_tokens": WholeNumber(1, 10**6),
        "prefill_tokens_per_s": Number(1, 1e9),
        "seed": WholeNumber(0, 2**31),
        "weight_load_s": Number(0, 3600),
    },
    "sglang": {},
    "tensorrt_llm": {},
    "nim": {},
}


def check_arguments(rules: Mapping[str, ArgumentRule], arguments: Mapping[str, str]) -> tuple[Refusal, ...]:
    """A refusal for each argument that is not allowed, in the order of their names; ``subject`` is the name."""
    refusals = []
    for name in sorted(arguments):
        rule, value = rules.get(name), arguments[name]
        if rule is None:
            known = ", ".join(sorted(rules)) or "none"
            refusals.append(_refusal("engine_argument_allowed", name, name, f"use only: {known}"))
        elif not rule.allows(value):
            refusals.append(_refusal("engine_argument_value", name, value, rule.remedy))
    return tuple(refusals)


def _refusal(rule: str, name: str, value: str, remedy: str) -> Refusal:
    return Refusal(rule=rule, subject=name[:80], value=value[:80], remedy=remedy)


#: What an engine computes side by side where its image does not say: given to it, so that both sides know.
_SEQUENCES_DEFAULT: Mapping[str, int] = {"vllm": 256, "simulator": 64}


def sequences_max(engine: str, arguments: Mapping[str, str]) -> int:
    """How many requests one replica computes side by side; 0 = not known. ``arguments`` must have been checked."""
    given = arguments.get("max_num_seqs")
    return int(given) if given is not None else _SEQUENCES_DEFAULT.get(engine, 0)


#: Adapters that an engine holds loaded at once where its image does not say.
_ADAPTER_SLOTS_DEFAULT = 4


def adapter_slots(arguments: Mapping[str, str], adapters: int) -> int:
    """How many of its ``adapters`` a replica holds loaded at once. ``arguments`` must have been checked."""
    given = arguments.get("max_loras")
    return min(int(given) if given is not None else _ADAPTER_SLOTS_DEFAULT, adapters)
