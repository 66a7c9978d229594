"""What is wrong: incidents with their time lines and records, and how every region is seen."""

from enum import StrEnum
from typing import Annotated

import typer

from meridian.cli import context
from meridian.cli.output import Format, FormatOption, console, print_document, print_list
from meridian.client import Client, Document
from meridian.errors import UsageError


class PlaceKind(StrEnum):
    PROVIDER = "provider"
    REGION = "region"
    CLUSTER = "cluster"
    POOL = "pool"
    REPLICA = "replica"
    CONTROL_PLANE = "control_plane"


def incidents(
    incident_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="One incident; the beginning of its id is enough.")
    ] = None,
    *,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not resolved.")] = False,
    record: Annotated[
        bool,
        typer.Option("--record", help="Print what was written of it, in Markdown, once it was resolved."),
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Incidents, newest first; with an ID its time line, what moved where, and what it cost."""
    if incident_id is None and record:
        raise UsageError("--record wants the ID of an incident; `meridian incidents` lists them")
    with context.client() as client:
        if incident_id is None:
            _list(client, output, only_open=only_open)
        elif record:
            document = client.get(f"incidents/{incident_id}/record")
            if output is Format.TABLE:
                typer.echo(document["markdown"], nl=False)
            else:
                print_document(document, output)
        else:
            _show(client.get(f"incidents/{incident_id}"), output)


def regions(
    kind: Annotated[
        list[PlaceKind] | None,
        typer.Option(help="What to show; may be repeated. Default: regions and clusters."),
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """How every region is seen now, by how many observers, and how old that is."""
    wanted = {one.value for one in kind or (PlaceKind.REGION, PlaceKind.CLUSTER)}
    with context.client() as client:
        found = [place for place in client.get("places")["items"] if place["kind"] in wanted]
    columns = ("kind", "name", "within", "state", "health", "evidence", "incident_id")
    print_list(found, columns, output, empty="no clusters yet")


def open_said(client: Client) -> list[str]:
    """One line for each incident that is open and no part of another one."""
    found = [row for row in client.items("incidents", open="true") if row["parent_id"] is None]
    return [
        f"{row['severity']}: {row['title']} is {row['state']}, {row['evidence']}{_drilled(row)}"
        f" (`meridian incidents {row['id'][:8]}`)"
        for row in found
    ]


def _drilled(incident: Document) -> str:
    drill = incident["drill"]
    return f"; brought about by drill {drill['title']}" if drill else ""


def _list(client: Client, output: Format, *, only_open: bool) -> None:
    columns = ("id", "severity", "state", "title", "cause", "opened_at", "resolved_at", "detected_after_s",
               "extra_usd", "drill", "evidence")  # fmt: skip
    found = client.items("incidents", open="true" if only_open else None)
    rows = list(found)
    if output is Format.TABLE:
        told = [row for row in rows if row["parent_id"] is None]
        rows = [row | {"drill": row["drill"]["title"] if row["drill"] else None} for row in told]
    print_list(rows, columns, output, empty="no incident is open" if only_open else "no incidents")


def _show(incident: Document, output: Format) -> None:
    if output is not Format.TABLE:
        print_document(incident, output)
        return
    for line in _head(incident):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    console.print()
    told = ("at", "severity", "reason", "message")
    print_list(incident["entries"], told, output, empty="nothing has happened yet")
    if incident["moves"]:
        console.print()
        moved = ("at", "plan_generation", "deployment", "replicas", "from_pool", "to_pool")
        print_list(incident["moves"], moved, output, empty="")
    if incident["state"] == "resolved":
        console.print(
            f"\n`meridian incidents {incident['id'][:8]} --record` prints its record", highlight=False
        )


def _head(incident: Document) -> list[str]:
    detected_s = incident["detected_after_s"]
    detected = "" if detected_s is None else f"; found {detected_s:.1f} s after its last sign of life"
    touched = [row["deployment"] for row in incident["deployments"]]
    others = incident["other_deployments"]
    if others:
        touched.append(f"{others} of other projects")
    ended = f", resolved {incident['resolved_at']}" if incident["resolved_at"] else ""
    return [
        f"{incident['title']}: {incident['state']} ({incident['severity']}, {incident['cause']})",
        f"{incident['evidence']}{detected}",
        f"opened {incident['opened_at']}{ended}{_drilled(incident)}",
        f"failed: {', '.join(incident['members'])}",
        f"touched: {', '.join(touched) or 'no deployment'}; {incident['extra_usd']} USD more than before it",
    ]
