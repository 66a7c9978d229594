"""The engines that Meridian can run, by name.

An engine is imported when it is asked for, so that a program which runs one never loads the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from workloadplane.protocol.refusal import Refusal

if TYPE_CHECKING:
    from workloadplane.engines.base import Engine

ENGINE_MODULES = {
    "simulator": "workloadplane.engines.simulator.engine",
    "vllm": "workloadplane.engines.vllm",
}


def engine_named(name: str) -> "Engine | Refusal":
    """The engine called ``name``, or a Refusal that lists those there are."""
    module = ENGINE_MODULES.get(name)
    if module is None:
        return Refusal(
            rule="engine_unknown",
            subject="engine",
            value=name,
            remedy=f"use one of: {', '.join(sorted(ENGINE_MODULES))}",
        )
    engine: Engine = import_module(module).ENGINE
    return engine
