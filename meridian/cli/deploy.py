"""``meridian deploy``: apply a document and watch until it serves."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from meridian.cli import context, plan_output
from meridian.cli.documents import read_document
from meridian.cli.output import Format, FormatOption, console, print_document
from meridian.client import Client
from meridian.errors import ExitCode, MeridianError, TimedOut

POLL_S = 0.5

#: What a starting replica is doing, in the order in which it does it.
PHASES = {
    "gpu_procurement": "procuring",
    "image_pull": "pulling",
    "weight_load": "loading",
    "engine_start": "starting",
}


def deploy(
    file: Annotated[
        Path, typer.Option("--file", "-f", help="The document, YAML or JSON; - reads standard input.")
    ],
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show the plan and its cost; change nothing. Ends with 1 if it would not be placed.",
        ),
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until it serves.")] = True,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")] = 900,
    output: FormatOption = Format.TABLE,
) -> None:
    """Create a deployment, or replace the one of the same name, and wait with live progress."""
    document = read_document(file)
    login = context.login_find()
    with context.client() as client:
        answer = client.deployment_apply(document, dry_run=dry_run)
        if dry_run:
            print_plan(answer, output)
            if answer["plan"]["refusals"]:
                raise typer.Exit(ExitCode.FAILED)
            return
        name = str(answer["name"])
        if wait:
            answer = wait_until_ready(client, name, generation=int(answer["generation"]), timeout_s=timeout_s)
    if output is not Format.TABLE:
        print_document(answer, output)
        return
    console.print(f"[green]●[/] {name} is {'ready' if wait else 'accepted'}")
    if login.inference_url:
        console.print(f"  endpoint  {login.inference_url}/v1   model  {name}", highlight=False)
        console.print(f'  try       meridian chat {name} "Hello"', highlight=False)


def print_plan(answer: dict[str, Any], output: Format) -> None:
    """What a dry run says: where replicas would run, at what price, or why not."""
    if output is not Format.TABLE:
        print_document(answer, output)
        return
    plan, name = answer["plan"], answer["deployment"]["name"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("cluster", "pool", "replicas", "usd per hour"):
        table.add_column(column)
    for row in plan["allocations"]:
        table.add_row(
            escape(row["cluster"]), escape(row["pool"]), plan_output.replicas_said(row), row["usd_per_h"]
        )
    if plan["allocations"]:
        console.print(table)
    plan_output.print_wishes(name, next(iter(plan["refusals"]), None), plan["relaxed"])
    console.print(f"total {plan['usd_per_h']} USD per hour; nothing was changed", highlight=False)
    for entry in answer["diff"]["deployments"]:
        if entry["name"] != name:
            console.print(f"[yellow]also changes[/]  {escape(entry['name'])}: {escape(entry['said'])}")


def wait_until_ready(client: Client, name: str, *, generation: int, timeout_s: float) -> dict[str, Any]:
    """The deployment once it serves in this generation. Raises MeridianError if it cannot, TimedOut if it has not."""
    started = time.monotonic()
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        while True:
            deployment = client.get(f"deployments/{name}")
            replicas = list(client.items(f"deployments/{name}/replicas"))
            elapsed_s = time.monotonic() - started
            live.update(_progress(deployment, replicas, elapsed_s))
            conditions = {
                c["type"]: c for c in deployment["conditions"] if c["observed_generation"] >= generation
            }
            placed = conditions.get("Placed")
            if placed and not placed["status"]:
                raise MeridianError(f"{name} cannot be placed: {placed['message']}")
            if "Ready" in conditions and conditions["Ready"]["status"]:
                return deployment
            if elapsed_s > timeout_s:
                what = conditions.get("Ready", {}).get("message") or _stage(deployment, replicas)
                raise TimedOut(f"{name} is not ready after {timeout_s:.0f} s: {what}")
            time.sleep(POLL_S)


def _stage(deployment: dict[str, Any], replicas: list[dict[str, Any]]) -> str:
    """The one word for where a deployment is on its way."""
    placed = next((c for c in deployment["conditions"] if c["type"] == "Placed"), None)
    if placed is None or not replicas:
        return "placing"
    reached = [
        list(PHASES).index(r["phase"]) for r in replicas if r["state"] == "starting" and r["phase"] in PHASES
    ]
    return list(PHASES.values())[max(reached)] if reached else "starting"


def _progress(deployment: dict[str, Any], replicas: list[dict[str, Any]], elapsed_s: float) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    counts = deployment["replicas"]
    head = f"{deployment['name']}: {_stage(deployment, replicas)}"
    table.add_row(head, f"{counts['ready']} of {counts['desired']} ready", f"{elapsed_s:.0f} s")
    for replica in replicas:
        doing = PHASES.get(replica["phase"] or "", replica["state"])
        table.add_row(f"  {replica['cluster']}", replica["engine"], doing)
    return table
