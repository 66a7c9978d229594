"""Reading a document field by field: what is wrong is told with its place, its value and what to do."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class WorldError(ValueError):
    """A world that cannot be read, in one sentence: which field, what it says, and what to give."""


class Fields:
    """One object of a document. Each field is taken once; ``done`` refuses those that nobody took."""

    def __init__(self, value: Any, where: str) -> None:
        """``where``: what the object is called in errors, empty for the document itself."""
        if not isinstance(value, Mapping):
            raise WorldError(f"{where or 'the world'} {_shown(value)}: give an object of fields and values")
        self.where = where
        self._left: dict[str, Any] = {str(name): each for name, each in value.items()}
        self._known: list[str] = []

    def __contains__(self, name: str) -> bool:
        self._known.append(name)
        return self._left.get(name) is not None

    def number(
        self,
        name: str,
        default: float | None = None,
        *,
        least: float = 0.0,
        most: float = 1e12,
        above: bool = False,
    ) -> float:
        """A finite number from ``least`` (``above``: not this itself) to ``most``; needed without a default."""
        value = self._take(name, default)
        if (
            not _is_number(value, least=-math.inf)
            or value > most
            or value < least
            or (above and value == least)
        ):
            bounds = f"above {least:g}" if above else f"of {least:g} or more"
            upper = f", {most:g} at most" if most < 1e12 else ""
            raise self.wrong(name, value, f"give a number {bounds}{upper}")
        return float(value)

    def whole(self, name: str, default: int | None = None, *, least: int = 0, most: int = 1_000_000) -> int:
        """A whole number within these."""
        value = self.number(name, default, least=least, most=most)
        if value != int(value):
            raise self.wrong(name, value, "give a whole number")
        return int(value)

    def text(self, name: str, default: str | None = None) -> str:
        """A text of 1 to 200 characters; needed without a default."""
        value = self._take(name, default)
        if not isinstance(value, str) or not 0 < len(value) <= 200:
            raise self.wrong(name, value, "give a text of 1 to 200 characters")
        return value

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str:
        """One of ``choices``."""
        value = self._take(name, default)
        if value not in choices:
            raise self.wrong(name, value, f"give one of: {', '.join(choices)}")
        return str(value)

    def child(self, name: str, *, needed: bool = True) -> "Fields":
        """The object of this name; an empty one where it may be left away."""
        return Fields(self._take(name, None if needed else {}), self._path(name))

    def children(self, name: str) -> Iterator["Fields"]:
        """The objects of the list of this name, which has one to a thousand."""
        value = self._take(name, None)
        if not isinstance(value, list) or not 0 < len(value) <= 1000:
            raise self.wrong(name, value, "give a list of one or more objects")
        for number, each in enumerate(value):
            yield Fields(each, f"{self._path(name)}[{number}]")

    def texts(self, name: str) -> tuple[str, ...]:
        """The list of texts of this name, which may be left away."""
        value = self._take(name, [])
        if not isinstance(value, list) or not all(
            isinstance(each, str) and 0 < len(each) <= 200 for each in value
        ):
            raise self.wrong(name, value, "give a list of texts of 1 to 200 characters")
        return tuple(value)

    def named(self, name: str) -> Iterator[tuple[str, "Fields"]]:
        """The objects in the object of this name, which may be left away."""
        value = self._take(name, {})
        if not isinstance(value, Mapping) or len(value) > 100:
            raise self.wrong(name, value, "give an object of names and objects")
        for each, fields in value.items():
            yield str(each), Fields(fields, f"{self._path(name)}.{each}")

    def part(self, *names: str) -> "Fields":
        """These of its fields as an object of their own, which takes them from here."""
        found = {name: self._take(name, None) for name in names}
        return Fields({name: value for name, value in found.items() if value is not None}, self.where)

    def names(self) -> tuple[str, ...]:
        """The fields that nobody has taken yet."""
        return tuple(self._left)

    def is_list(self, name: str) -> bool:
        """Whether a list is given."""
        return isinstance(self._left.get(name), list)

    def over(self, usual: "Fields") -> "Fields":
        """These fields, and those of ``usual`` that are not among them."""
        return Fields({**usual._left, **self._left}, self.where)

    def points(self, name: str) -> list[tuple[float, float]]:
        """A list of two to a thousand pairs of numbers of 0 or more."""
        value = self._take(name, None)
        if not isinstance(value, list) or not 2 <= len(value) <= 1000:
            raise self.wrong(name, value, "give a list of two or more pairs of numbers")
        found = []
        for number, pair in enumerate(value):
            where = f"{name}[{number}]"
            if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_number, pair)):
                raise self.wrong(where, pair, "give a pair of numbers of 0 or more")
            found.append((float(pair[0]), float(pair[1])))
        return found

    def drop(self, *names: str) -> None:
        """These are known, and count for nothing here."""
        for name in names:
            self._take(name, None)

    def done(self) -> None:
        """Nothing else may stand here. A known field with nothing in it is left away."""
        for name, value in self._left.items():
            if value is not None or name not in self._known:
                known = ", ".join(sorted(set(self._known)))
                raise self.wrong(name, value, f"no such field; there are: {known}")

    def wrong(self, name: str, value: Any, remedy: str) -> WorldError:
        """The error for a field."""
        said = "is missing" if value is None else _shown(value)
        return WorldError(f"{self._path(name)} {said}: {remedy}")

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        value = self._left.pop(name, None)
        return default if value is None else value

    def _path(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name


def _is_number(value: Any, *, least: float = 0.0) -> bool:
    """Whether it is a finite number of ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= 1e300 and value >= least


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
