"""``meridian drill``: lose something on purpose, see what clients notice, and set it against what was promised."""

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.live import Live

from meridian.cli import context
from meridian.cli.drill_faults import NoBreaker, local_breaker
from meridian.cli.drill_output import blast_said, live_table, phase_said, report_table, verdict_said
from meridian.cli.drill_run import DrillRun, Wanted
from meridian.cli.ids import id_begun
from meridian.cli.output import Format, FormatOption, console, print_document, print_list
from meridian.client import Client, Document
from meridian.errors import MeridianError, UsageError
from workloadplane.words import counted

app = typer.Typer(no_args_is_help=True, help="Lose something on purpose and see whether the promise holds.")


class Kind(StrEnum):
    LOSE_REGION = "lose-region"
    LOSE_PROVIDER = "lose-provider"
    LOSE_CONTROL_PLANE = "lose-control-plane"
    SLOW_REGION = "slow-region"
    LATENCY = "latency"
    PARTITION_ONE_WAY = "partition-one-way"
    PARTITION_TWO_WAY = "partition-two-way"


class Scheduled(StrEnum):
    LOSE_REGION = "lose-region"
    LOSE_PROVIDER = "lose-provider"


class By(StrEnum):
    WEIGHTS = "weights"
    FAULTS = "faults"


DeploymentOption = Annotated[str, typer.Option("--deployment", "-d", help="Whose promise is tested.")]
TargetArgument = Annotated[
    str, typer.Argument(metavar="[NAME]", help="A region or provider; none for the control plane.")
]
ForOption = Annotated[float, typer.Option("--for", min=1, max=3000, help="Seconds that it lasts.")]
ByOption = Annotated[
    By | None,
    typer.Option(
        help="faults: kill or stop processes of the system on this machine; weights: keep traffic away by routing"
        " tables, anywhere. Default: faults where `meridian up` runs here."
    ),
]
BudgetOption = Annotated[
    float,
    typer.Option(
        "--error-budget", min=0, max=1, help="Share of requests that may fail before it is aborted."
    ),
]
TtftOption = Annotated[
    float,
    typer.Option(
        "--ttft-limit", min=0.001, help="Seconds to a first token; later, time after time, aborts it."
    ),
]
DurationOption = Annotated[float, typer.Option("--max-duration", min=1, help="Seconds until it is aborted.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The beginning of it is enough.")]


@app.command("run")
def run(
    kind: Annotated[Kind, typer.Argument(help="What is lost, slow or cut.")],
    name: TargetArgument = "",
    *,
    deployment: DeploymentOption,
    by: ByOption = None,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Stop processes (SIGSTOP) instead of killing them.")
    ] = False,
    delay_ms: Annotated[
        float, typer.Option("--delay-ms", min=1, max=10_000, help="latency: how late bytes are, each way.")
    ] = 200,
    for_s: ForOption = 20,
    before_s: Annotated[float, typer.Option("--before", min=1, help="Seconds to measure before.")] = 5,
    settle_s: Annotated[float, typer.Option("--settle", min=1, help="Seconds to wait for its return.")] = 90,
    rate: Annotated[float, typer.Option(min=0.2, max=200, help="Requests a second.")] = 8,
    error_budget: BudgetOption = 0.01,
    ttft_limit: TtftOption = 10,
    max_duration: DurationOption = 300,
    accept_risk: Annotated[
        bool,
        typer.Option("--accept-risk", help="Go on though the certificate says that somebody falls short."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what it would touch, and what is promised.")
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Run a drill: what it touches is said first, clients measure it, and all is put back whatever happens."""
    login = context.login_find()
    breaker = local_breaker(login)
    method = _method(by, kind, is_local=breaker is not None, freeze=freeze)
    wanted = Wanted(
        kind=kind.value,
        target=name,
        deployment=deployment,
        method=method.value,
        fault_s=for_s,
        before_s=before_s,
        settle_s=settle_s,
        per_s=rate,
        accept_risk=accept_risk,
        limits=_limits(error_budget, ttft_limit, max_duration),
        frozen=freeze,
        delay_s=delay_ms / 1000,
    )
    chosen = breaker if method is By.FAULTS and breaker is not None else NoBreaker()
    with context.client() as client:
        preview = client.request("POST", "drills/preview", body=wanted.what)[0]
        if check or output is Format.TABLE:
            _say_first(preview, wanted, output)
        if not check:
            _end(_watched(DrillRun(client, login, wanted, chosen), output), output)


def _method(by: By | None, kind: Kind, *, is_local: bool, freeze: bool) -> By:
    """Raises UsageError for what does not go together. ``is_local``: the system of this machine can be broken."""
    method = by or (By.FAULTS if is_local else By.WEIGHTS)
    if method is By.FAULTS and not is_local:
        raise UsageError("faults need the system that `meridian up` runs on this machine: drill --by weights")
    if freeze and (method is By.WEIGHTS or not kind.value.startswith(("lose-region", "lose-provider"))):
        raise UsageError("--freeze is for a region or provider that is lost by faults")
    return method


@app.command("list")
def list_(
    deployment: Annotated[str | None, typer.Option("--deployment", "-d", help="Only of this one.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Drills of the project, the newest first."""
    columns = (
        "id", "kind", "target", "deployment", "method", "state", "report.last_failed_s", "report.served_share",
        "started_at", "created_by",
    )  # fmt: skip
    with context.client() as client:
        found = client.items("drills", deployment=deployment)
        print_list(found, columns, output, empty="no drills yet; `meridian drill run` makes one")


@app.command()
def show(drill_id: Id, output: FormatOption = Format.TABLE) -> None:
    """One drill with its report beside the promise."""
    with context.client() as client:
        drill = client.get(f"drills/{_whole(client, drill_id)}")
    if output is not Format.TABLE:
        print_document(drill, output)
        return
    console.print(verdict_said(drill), highlight=False, soft_wrap=True)
    if drill["report"]:
        console.print(report_table(drill))


@app.command()
def abort(drill_id: Id) -> None:
    """End a drill at any point; what is broken here is mended."""
    login = context.login_find()
    breaker = local_breaker(login)
    if breaker is not None:
        breaker.end()
    with context.client() as client:
        drill = client.request("POST", f"drills/{_whole(client, drill_id)}/abort")[0]
    console.print(verdict_said(drill), highlight=False, soft_wrap=True)


@app.command()
def schedule(
    kind: Annotated[Scheduled, typer.Argument(help="What is lost; by weights.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="A region or provider.")],
    *,
    deployment: DeploymentOption,
    every: Annotated[
        int, typer.Option("--every-days", min=1, max=366, help="Days from one to the next.")
    ] = 7,
    at: Annotated[str, typer.Option("--at", metavar="HH:MM", help="Its window's beginning, UTC.")] = "03:30",
    window: Annotated[
        int, typer.Option("--window-minutes", min=1, max=1440, help="It may begin so long.")
    ] = 60,
    for_s: ForOption = 60,
    error_budget: BudgetOption = 0.01,
    ttft_limit: TtftOption = 10,
    max_duration: DurationOption = 300,
) -> None:
    """Let a drill come again by itself, measured by what real clients use."""
    body = {
        "kind": kind.value,
        "target": name,
        "deployment": deployment,
        "every_days": every,
        "starts_at_utc": at,
        "window_minutes": window,
        "fault_s": for_s,
        "limits": _limits(error_budget, ttft_limit, max_duration),
    }
    with context.client() as client:
        made = client.request("POST", "drill-schedules", body=body)[0]
    console.print(
        f"{kind.value} {name} for {deployment}: next {made['next_at']}, then every {counted(every, 'day')}; "
        f"`meridian drill unschedule {made['id']}` ends it",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def schedules(output: FormatOption = Format.TABLE) -> None:
    """Drills that come again."""
    columns = ("id", "kind", "target", "deployment", "every_days", "next_at", "last_drill_id", "created_by")
    with context.client() as client:
        print_list(client.items("drill-schedules"), columns, output, empty="no drill comes by itself")


@app.command()
def unschedule(schedule_id: Id) -> None:
    """Let it come no more; one that is under way goes on."""
    with context.client() as client:
        listed_by = "meridian drill schedules"
        whole = id_begun(client, "drill-schedules", schedule_id, kind="drill schedule", listed_by=listed_by)
        client.request("DELETE", f"drill-schedules/{whole}")
    console.print("it comes no more")


def _whole(client: Client, shown: str) -> str:
    return id_begun(client, "drills", shown, kind="drill", listed_by="meridian drill list")


def _limits(error_budget: float, ttft_limit: float, max_duration: float) -> dict[str, float]:
    return {
        "error_budget_share": error_budget,
        "ttft_s_max": ttft_limit,
        "duration_s_max": max_duration,
    }


def _say_first(preview: Document, wanted: Wanted, output: Format) -> None:
    if output is not Format.TABLE:
        print_document(preview, output)
        return
    for line in blast_said(preview, wanted.what, wanted.fault_s):
        console.print(line, highlight=False, soft_wrap=True)


def _watched(run: DrillRun, output: Format) -> Document:
    """The ended drill; on a terminal one sees it go on, elsewhere each phase is a line, or nothing is said."""
    if output is not Format.TABLE:
        return run.run()
    if console.is_terminal:
        with Live(console=console, transient=True, refresh_per_second=4) as live:
            run.show = lambda now: live.update(live_table(now))
            return run.run()
    told: list[str] = []

    def by_line(now: DrillRun) -> None:
        if not told or told[-1] != now.phase:
            told.append(now.phase)
            console.print(phase_said(now), highlight=False, soft_wrap=True)

    run.show = by_line
    return run.run()


def _end(drill: dict[str, Any], output: Format) -> None:
    """Print it; what differs or was aborted is a failure that a script sees."""
    if output is not Format.TABLE:
        print_document(drill, output)
    elif drill["report"]:
        console.print(report_table(drill))
    if drill["state"] != "passed":
        raise MeridianError(verdict_said(drill))
    if output is Format.TABLE:
        console.print(verdict_said(drill), highlight=False, soft_wrap=True)
