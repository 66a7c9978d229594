"""Planned moves: emptying a region, cluster, pool or node, and opening it again."""

import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from meridian.cli import context
from meridian.cli.output import Format, FormatOption, console, print_document, print_list
from meridian.client import Client, Document
from meridian.errors import MeridianError, NotFound, TimedOut, UsageError
from workloadplane.words import counted

POLL_S = 0.5
ENDED = ("over", "cancelled", "refused")


class Kind(StrEnum):
    REGION = "region"
    CLUSTER = "cluster"
    POOL = "pool"
    NODE = "node"


KindArgument = Annotated[Kind, typer.Argument(help="What NAME is.")]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A region, a cluster, CLUSTER/POOL or CLUSTER/NODE.")
]


def drain(
    kind: KindArgument,
    name: NameArgument,
    *,
    accept_risk: Annotated[
        bool,
        typer.Option("--accept-risk", help="Go on though a promise would break; it is recorded who did."),
    ] = False,
    starts: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="All shall have moved by then (ISO 8601).")
    ] = None,
    ends: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="It opens again then by itself (ISO 8601).")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for those who see it.")] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Only say what would be left, and whether it would be refused.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Show the move until it is empty.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")] = 1800,
    output: FormatOption = Format.TABLE,
) -> None:
    """Empty a region, cluster, pool or node: what runs there is ready elsewhere before it goes."""
    with context.client() as client:
        if check:
            _check(client, kind, name, output)
            return
        body = {
            "kind": kind.value,
            "name": name,
            "accept_risk": accept_risk,
            "starts_at": _moment("--from", starts),
            "ends_at": _moment("--to", ends),
            "reason": reason,
        }
        made = client.request("POST", "drains", body=body)[0]
        if wait:
            made = wait_until_drained(client, made, timeout_s=timeout_s)
    if output is not Format.TABLE:
        print_document(made, output)
        return
    console.print(_said(made), highlight=False, soft_wrap=True)


def undrain(
    kind: KindArgument,
    name: NameArgument,
    drain_id: Annotated[
        str | None, typer.Option("--id", help="Which one, where several windows are planned.")
    ] = None,
) -> None:
    """Open it again, at any point of its drain; a window that has not begun is cancelled."""
    with context.client() as client:
        lifted = client.request("POST", f"drains/{drain_id or _open(client, kind, name)}/lift")[0]
    console.print(f"{kind} {name} is open again ({lifted['state']})", highlight=False)


def drains(
    ended: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Drains and maintenance windows, with how far they are."""
    columns = (
        "id", "kind", "name", "state", "progress.gone", "progress.replicas", "progress.eta_s", "starts_at", "ends_at",
        "deadline_at", "lost_at", "created_by", "reason",
    )  # fmt: skip
    with context.client() as client:
        found = client.items("drains", ended=None if ended else "false")
        print_list(found, columns, output, empty="nothing is drained, and no window is planned")


def _check(client: Client, kind: Kind, name: str, output: Format) -> None:
    preview = client.request("POST", "drains/preview", body={"kind": kind.value, "name": name})[0]
    if output is not Format.TABLE:
        print_document(preview, output)
    else:
        columns = ("deployment", "jurisdiction", "replicas_now", "replicas_after")
        print_list(preview["kept"], columns, output, empty=f"nothing runs in {kind} {name}")
        expected_s = preview["expected_s"]
        took = "an unknown time" if expected_s is None else f"about {expected_s:.0f} s"
        console.print(f"{counted(preview['replicas'], 'replica')} to move, in {took}", highlight=False)
    if preview["shortfalls"]:
        said = "; ".join(f"{s['subject']} {s['value']} ({s['remedy']})" for s in preview["shortfalls"])
        raise MeridianError(f"it would be refused: it would leave {said}")


def _open(client: Client, kind: Kind, name: str) -> str:
    """The drain to lift: the one in force, else the only window that is planned."""
    found = list(client.items("drains", kind=kind.value, name=name, ended="false"))
    in_force = [row for row in found if row["state"] != "planned"]
    chosen = in_force or found
    if not chosen:
        raise NotFound(f"no drain of {kind} {name} is open; `meridian drains` lists those that are")
    if len(chosen) > 1:
        windows = ", ".join(f"{row['id']} (from {row['starts_at']})" for row in chosen)
        raise UsageError(f"several windows are planned for {kind} {name}: say which with --id: {windows}")
    return str(chosen[0]["id"])


def wait_until_drained(client: Client, drain: Document, *, timeout_s: float) -> Document:
    """The drain once its place is empty. Raises MeridianError if it ends before, TimedOut if it has not ended."""
    started = time.monotonic()
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        while True:
            drain = client.get(f"drains/{drain['id']}")
            live.update(_progress(drain))
            if drain["state"] == "drained":
                return drain
            if drain["state"] in ENDED:
                raise MeridianError(f"{_said(drain)}; nothing more moves")
            if time.monotonic() - started > timeout_s:
                raise TimedOut(
                    f"{_said(drain)} after {timeout_s:.0f} s; it goes on, `meridian drains` shows it"
                )
            time.sleep(POLL_S)


def _said(drain: Document) -> str:
    """One sentence: where it is, and what ends it."""
    place = f"{drain['kind']} {drain['name']}"
    progress = drain["progress"]
    lift = f"`meridian undrain {place}` opens it again"
    match drain["state"]:
        case "planned":
            return f"{place} is planned to be empty from {drain['starts_at']} on; the move begins {drain['begins_at']}"
        case "moving":
            eta_s = progress["eta_s"]
            left = "" if eta_s is None else f", about {eta_s:.0f} s left"
            of = counted(progress["replicas"], "replica")
            return f"{place} is moving: {progress['gone']} of {of} gone{left}; {lift}"
        case "drained":
            return f"{place} is empty; {lift}"
        case "refused":
            return f"{place} was refused when its window came"
        case state:
            return f"{place} is open again ({state})"


def _progress(drain: Document) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    progress, eta_s = drain["progress"], drain["progress"]["eta_s"]
    table.add_row(
        f"{drain['kind']} {drain['name']}: {drain['state']}",
        f"{progress['gone']} of {progress['replicas']} gone",
        "" if eta_s is None else f"about {eta_s:.0f} s left",
    )
    for row in progress["deployments"]:
        name = row["deployment"] or "another project's"
        table.add_row(
            f"  {name}", f"{row['here']} here", f"{row['ready']} of {row['wanted']} ready elsewhere"
        )
    return table


def _moment(option: str, text: str | None) -> str | None:
    """With its time zone: this machine's where none is given. Raises UsageError for what is no moment."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat()
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is no moment: write it like 2030-06-01T22:00+02:00") from error
