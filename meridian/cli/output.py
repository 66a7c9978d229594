"""Printing: tables for people, JSON and YAML for programs."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from meridian.cli.documents import as_yaml

#: Where nobody watches (a pipe, a file) lines are not folded to some terminal's width.
_WIDTH = None if sys.stdout.isatty() else 240

console = Console(width=_WIDTH)
errors = Console(stderr=True)

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:00)")


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


FormatOption = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]

Document = Mapping[str, Any]


def print_document(document: Any, output: Format) -> None:
    """A whole document, exactly as the API gave it."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if output is Format.YAML:
        plain = json.loads(text)  # the dumper knows no kinds of dict
        typer.echo(as_yaml(plain), nl=False)
    else:
        typer.echo(text)


def print_list(items: Iterable[Document], columns: Sequence[str], output: Format, *, empty: str) -> None:
    """A list: in a table the named columns (``a.b`` reaches into objects), else the whole documents."""
    rows = list(items)
    if output is not Format.TABLE:
        print_document(rows, output)
        return
    if not rows:
        errors.print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.rpartition(".")[2].replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(_reach(row, column)) for column in columns))
    console.print(table)


def _reach(document: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(document, Mapping):
            return None
        document = document.get(part)
    return document


def _cell(value: Any) -> str:
    """A value for a person: ids and moments shortened, what is absent left out (JSON and YAML keep all)."""
    if value is None or value in ([], {}, ""):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items() if item is not None) or "–"
    text = str(value)
    if _UUID.fullmatch(text):
        return text[:8]
    moment = _MOMENT.fullmatch(text)
    return f"{moment[1]} {moment[2]}" if moment else text
