"""``meridian simulate``: a world of requests played for several policies, on this machine, with no server.

What plays (the extra ``simulation``) is imported only when the verb runs: the command also installs without it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from meridian.cli.documents import read_document
from meridian.cli.output import Format, FormatOption, errors, print_list
from meridian.cli.traces import Files, errors_told, simulation_needed
from meridian.errors import UsageError
from workloadplane.words import counted

if TYPE_CHECKING:
    from controlplane.simulation.serving.outcome import Outcome, RegionOutcome
    from controlplane.simulation.serving.world import ServingWorld, Survey

_SHOWN = (
    "policy",
    "mode",
    "procurement",
    "within_slo_percent",
    "usd",
    "replica_hours",
    "launches",
    "not_served",
    "waited_s_p99",
)
_SHOWN_REGIONS = ("within_slo_during_percent", "spilled_percent")


def simulate(  # noqa: PLR0917  (a command line's options)
    world: Annotated[
        Path | None, typer.Option(help="The world: a YAML or JSON document (docs/simulation.md).")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="Requests to replay, .csv or .jsonl (.gz); in place of the world's own."),
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Policies, by commas: predictive, kpa, static:N, or the world's own.")
    ] = "predictive,kpa",
    out: Annotated[
        Path, typer.Option(help="The folder for report.html, results.json and two CSV files.")
    ] = Path("simulation"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the policies that an interrupted run has finished.")
    ] = False,
    write_trace: Annotated[
        Path | None, typer.Option(help="Write the world's requests as a CSV trace, and play nothing.")
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Play a world's requests for several autoscaling policies, and set their cost, SLO and launches side by side."""
    simulation_needed()
    if world is None and trace is None:
        raise UsageError("there is nothing to play: give --world FILE, --trace FILE or both")
    with errors_told():
        files = Files(world.parent if world is not None else Path())
        played, document = _world(world, trace)
        if write_trace is not None:
            _write_trace(played, files, write_trace)
            return
        run = _Run(played, files, out, _digest(document, played, files))
        outcomes = run.all([name.strip() for name in policy.split(",") if name.strip()], resume=resume)
    shown = (
        ("policy", "region", *_SHOWN[1:], *_SHOWN_REGIONS)
        if any(each.regions for each in outcomes)
        else _SHOWN
    )
    print_list([row for each in outcomes for row in _rows(each)], shown, output, empty="")
    if output is Format.TABLE:
        typer.echo(f"Report: {out / 'report.html'}")


def _world(world: Path | None, trace: Path | None) -> tuple[ServingWorld, Any]:
    from controlplane.simulation.serving.world_document import USUAL, world_of

    document: Any = read_document(world, "world") if world is not None else USUAL
    file = str(trace.resolve()) if trace is not None else None
    return world_of(document, trace=file), document


def _digest(document: Any, played: ServingWorld, files: Files) -> str:
    """Of all that decides the figures: the document, the files and this version."""
    from controlplane.simulation.serving.world import files_of

    digest = hashlib.sha256(json.dumps(_named(document), sort_keys=True, default=str).encode())
    digest.update(version("meridian-serving").encode())
    for name in files_of(played):
        with files.path(name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _named(part: Any) -> Any:
    """The document with texts for names: YAML takes numbers and dates for names too."""
    if isinstance(part, Mapping):
        return {str(name): _named(value) for name, value in part.items()}
    return [_named(value) for value in part] if isinstance(part, list) else part


class _Run:
    """One world, played policy by policy; what is finished is on the disk."""

    def __init__(self, world: ServingWorld, files: Files, out: Path, digest: str) -> None:
        self._world, self._files, self._out, self._digest = world, files, out, digest

    def all(self, names: list[str], *, resume: bool) -> list[Outcome]:
        """In this order. Every name is looked at before the first one is played."""
        from controlplane.simulation.serving.playing import Play
        from controlplane.simulation.serving.policies_document import choices_of

        if not names or len(set(names)) < len(names):
            raise UsageError("--policy: give each policy once, by commas")
        for name in names:
            choices_of(self._world, name)
        self._out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=self._out):  # what cannot be written is better known now than after an hour
            pass
        finished = self._finished() if resume else {}
        with _progress() as bar:
            seen = self._survey(bar)
            for name in names:
                task = bar.add_task(name, total=1.0)
                if name not in finished:
                    play = Play(self._world, seen, name, self._files.lines)
                    finished[name] = play.run(partial(_tell, bar, task))
                bar.update(task, completed=1.0)
                self._write(seen, [finished[each] for each in names if each in finished])
        return [finished[name] for name in names]

    def _survey(self, bar: Progress) -> Survey:
        from controlplane.simulation.serving.world import survey

        task = bar.add_task("reading", total=None)
        seen = None
        for seen in survey(self._world, self._files.lines):
            bar.update(task, description=f"reading {counted(seen.requests, 'request', ',')}")
        if seen is None or not seen.requests:
            raise UsageError(f"{self._world.name}: no request comes in all its time; give arrivals")
        bar.update(task, total=1.0, completed=1.0)
        return seen

    def _finished(self) -> dict[str, Outcome]:
        from controlplane.simulation.serving.results import outcomes_in

        try:
            return outcomes_in((self._out / "results.json").read_bytes(), self._digest)
        except FileNotFoundError:
            return {}

    def _write(self, seen: Survey, outcomes: list[Outcome]) -> None:
        from controlplane.simulation.serving.report import html_report
        from controlplane.simulation.serving.results import as_json, summary_csv, timeline_csv

        for name, text in (
            ("report.html", html_report(self._world, seen, outcomes, self._digest)),
            ("summary.csv", summary_csv(outcomes)),
            ("timeline.csv", timeline_csv(outcomes)),
            ("results.json", as_json(self._world, seen, outcomes, self._digest)),
        ):
            part = self._out / f".{name}.part"
            with _naming(self._out / name):
                try:
                    part.write_text(text, encoding="utf-8")
                    part.replace(self._out / name)
                finally:
                    part.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A disk that is full doesn't say for what: this is named."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _write_trace(world: ServingWorld, files: Files, path: Path) -> None:
    from controlplane.simulation.serving.world import requests_in

    rows = 0
    with _naming(path), path.open("w", encoding="utf-8") as file:
        file.write("timestamp,input_tokens,output_tokens\n")
        for batch in requests_in(world, files.lines):
            columns = (batch.at_s, batch.input_tokens, batch.output_tokens)
            file.writelines(f"{at:.3f},{read},{said}\n" for at, read, said in zip(*columns, strict=True))
            rows += len(batch)
    typer.echo(f"{path}: {counted(rows, 'request', ',')}")


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    return Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)


def _tell(bar: Progress, task: Any, share: float) -> None:
    bar.update(task, completed=share)


def _rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """Of all, and of each region if there are several."""
    whole = _row(outcome)
    yield {**whole, "region": "all"} if outcome.regions else whole
    for region in outcome.regions:
        yield {"policy": outcome.policy, **_row(region)}


def _row(outcome: Outcome | RegionOutcome) -> dict[str, Any]:
    row = asdict(outcome)
    for name in ("moments", "regions"):
        row.pop(name, None)
    row["usd"] = round(outcome.usd, 2)
    for name in ("within_slo", "within_slo_outside", "within_slo_during", "spilled"):
        if row[name] is not None:
            row[f"{name}_percent"] = f"{100 * row[name]:.3f}"
    return row
