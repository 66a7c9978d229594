"""Printing: tables for people, JSON and YAML for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

console = Console()
errors = Console(stderr=True)


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


FormatOption = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]

Document = Mapping[str, Any]


def print_document(document: Any, output: Format) -> None:
    """A whole document, exactly as the API gave it."""
    if output is Format.YAML:
        typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
    else:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


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
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "–"
    return str(value)
