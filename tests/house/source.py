"""Reading the project's own source for the house rules."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Source:
    """One module: its path from the root, and its syntax tree."""

    path: Path
    tree: ast.Module

    def at(self, node: ast.AST) -> str:
        """Where a node stands, as editors write it."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


def sources(*folders: str) -> Iterator[Source]:
    """All modules under these folders; at least one each, so that a renamed folder cannot silence a rule."""
    for folder in folders:
        files = sorted((ROOT / folder).rglob("*.py"))
        assert files, f"{folder} has no modules: correct the folder's name in the house rule"
        for file in files:
            yield Source(file.relative_to(ROOT), ast.parse(file.read_text(), filename=str(file)))


def dotted(node: ast.AST) -> str:
    """``a.b.c`` for an attribute chain of names, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        start = dotted(node.value)
        return f"{start}.{node.attr}" if start else ""
    return ""
