"""Reading the documents that users write, and writing them as they are read."""

import math
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from meridian.errors import UsageError

#: A deployment's document is under 2 KB; what is larger is some other file.
MAX_BYTES = 1024 * 1024


class _Loader(yaml.SafeLoader):
    """As usual, but a name may stand once (of two values nobody knows which one was meant), and aliases are bounded."""

    def construct_document(self, node: yaml.Node) -> Any:
        # What is written out has fewer values than bytes, so only aliases come to more.
        if _values(node, {}) > MAX_BYTES:
            raise yaml.constructor.ConstructorError(
                problem=f"its aliases (*name) repeat values more than {MAX_BYTES:,} times: write out what is meant"
            )
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name in seen and name != "<<":
                raise yaml.constructor.ConstructorError(
                    problem=f"{name[:60]!r} is there twice: leave one of them away",
                    problem_mark=key.start_mark,
                )
            seen |= {name} if name else set()
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """As usual, but a text that would be read as a number is quoted."""


#: As YAML 1.2 and JSON write numbers: YAML 1.1 takes 1e9 and 1.5e3 for texts, as it wants a point and a sign there.
_EXPONENT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+$", re.ASCII)
for _either in (_Loader, _Dumper):
    _either.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def as_yaml(plain: Any) -> str:
    """Lists, dicts and values of JSON as YAML that ``read_document`` reads as the same."""
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def read_document(path: Path, what: str = "deployment") -> dict[str, Any]:
    """The one YAML or JSON document in a file (``-``: standard input). Raises UsageError naming file and line.

    ``what``: it should hold.
    """
    try:
        text = sys.stdin.read(MAX_BYTES + 1) if str(path) == "-" else _read(path, what)
        document = yaml.load(text, _Loader)  # noqa: S506  (a SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UsageError(f"{path} is not YAML{where}: {getattr(error, 'problem', error)}") from error
    except RecursionError as error:
        raise UsageError(f"{path} is nested too deeply") from error
    except ValueError as error:  # YAML's own dates and numbers, such as 2026-13-45
        raise UsageError(f"{path} holds a value that is none: {error}") from error
    if not isinstance(document, Mapping):
        raise UsageError(f"{path} holds no {what}; it must be a mapping that begins with `name:`")
    for place, number in _numbers(document):
        if not math.isfinite(number):
            raise UsageError(f"{path}: {place} is {number}; give a finite number")
    return dict(document)


def _values(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for, with each alias as what it repeats; without end if it repeats itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        below = chain.from_iterable(parts) if isinstance(node, yaml.MappingNode) else parts
        known[id(node)] = 1 + sum(_values(part, known) for part in below)
    return known[id(node)]


def _numbers(part: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """All floats of a document, each with a pointer to it."""
    if isinstance(part, float):
        yield place, part
    elif isinstance(part, Mapping):
        for name, value in part.items():
            yield from _numbers(value, f"{place}/{name}")
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from _numbers(value, f"{place}/{index}")


def _read(path: Path, what: str) -> str:
    with path.open(encoding="utf-8") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES} bytes, so it is no {what}'s document")
    return text
