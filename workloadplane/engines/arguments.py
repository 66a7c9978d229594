"""Which arguments of an engine image may be set, and to what.

An engine's command line can load foreign code, open ports and write files, so nothing gets on it that is not
listed here by its engine. Pure.
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


def check_arguments(
    engine: str, rules: Mapping[str, ArgumentRule], arguments: Mapping[str, str]
) -> Refusal | None:
    """``None`` if all are allowed, else the first that is not, in the order of their names."""
    for name in sorted(arguments):
        value = arguments[name]
        rule = rules.get(name)
        if rule is None:
            return Refusal(
                rule="engine_argument_allowed",
                subject=f"{engine} argument",
                value=name[:80],
                remedy=f"use only: {', '.join(sorted(rules))}",
            )
        if not rule.allows(value):
            return Refusal(
                rule="engine_argument_value",
                subject=f"{engine} argument {name}",
                value=value[:80],
                remedy=rule.remedy,
            )
    return None


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
