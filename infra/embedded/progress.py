"""Telling what is being done and how long it took: a live list on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from infra.embedded.layout import write_private


@dataclass
class _Step:
    title: str
    began_s: float
    took_s: float | None = None
    failed: bool = False
    detail: str = ""
    spinner: Spinner = field(default_factory=lambda: Spinner("dots"))


class Progress:
    """Steps that may run beside each other, each with its seconds."""

    def __init__(self, console: Console) -> None:
        """Writes to ``console``; enter it as a context to show the live list."""
        self._console = console
        self._began = time.monotonic()
        self._steps: list[_Step] = []
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8)
        self._is_live = console.is_terminal

    def __enter__(self) -> Progress:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_live:
            self._live.stop()

    @contextmanager
    def step(self, title: str) -> Iterator[_Step]:
        """Time one step; its ``detail`` may be set while it runs."""
        step = _Step(title=title, began_s=self._seconds())
        self._steps.append(step)
        try:
            yield step
        except BaseException:
            step.failed = True
            raise
        finally:
            step.took_s = self._seconds() - step.began_s
            if not self._is_live:
                self._console.print(self._line(step), soft_wrap=True)

    def say(self, text: str) -> None:
        """One line that stays."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def seconds(self) -> float:
        """Seconds since the beginning."""
        return round(self._seconds(), 2)

    def write_timings(self, path: Path, **facts: Any) -> None:
        """Write the seconds of every step, and ``facts``, as JSON."""
        phases = [
            {"phase": step.title, "began_s": round(step.began_s, 2), "took_s": round(step.took_s or 0.0, 2)}
            for step in self._steps
        ]
        write_private(
            path, json.dumps({**facts, "total_s": self.seconds(), "phases": phases}, indent=2) + "\n"
        )

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _render(self) -> RenderableType:
        return Group(
            *(self._running(step) if step.took_s is None else self._line(step) for step in self._steps)
        )

    def _running(self, step: _Step) -> RenderableType:
        seconds = self._seconds() - step.began_s
        detail = f"  {step.detail}" if step.detail else ""
        step.spinner.update(text=Text(f"{step.title:<34} {seconds:6.1f} s{detail}", style="bold"))
        return step.spinner

    @staticmethod
    def _line(step: _Step) -> Text:
        mark, style = ("✗", "red") if step.failed else ("✓", "green")
        detail = f"  {step.detail}" if step.detail else ""
        return Text.assemble((mark, style), f" {step.title:<34} {step.took_s or 0.0:6.1f} s{detail}")
