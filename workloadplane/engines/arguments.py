"""Checked arguments of an engine image as a command line."""

from collections.abc import Mapping

from workloadplane.protocol.engine_arguments import SWITCH


def as_options(arguments: Mapping[str, str]) -> list[str]:
    """Checked arguments as a command line; a switch becomes ``--name`` or ``--no-name``."""
    options: list[str] = []
    for name in sorted(arguments):
        option, value = name.replace("_", "-"), arguments[name]
        if value in SWITCH.values:
            options.append(f"--{option}" if value == "true" else f"--no-{option}")
        else:
            options.append(f"--{option}={value}")
    return options
