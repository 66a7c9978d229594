"""Clusters: giving up one that is not coming back."""

from typing import Annotated

import typer

from meridian.cli import context
from meridian.cli.output import Format, FormatOption, console, print_list

app = typer.Typer(no_args_is_help=True, help="List clusters, and give up one that is not coming back.")


@app.command("list")
def list_(output: FormatOption = Format.TABLE) -> None:
    """All clusters of the organization."""
    with context.client() as client:
        columns = ("name", "region", "jurisdiction", "connected", "schedulable", "retired_at")
        print_list(client.items("clusters"), columns, output, empty="no clusters; make one in the console")


def nodes(
    cluster: Annotated[str | None, typer.Argument(help="Only those of this cluster.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Machines of the pools, what is on them, and which take nothing new; `meridian drain node` empties one."""
    with context.client() as client:
        columns = ("cluster", "pool", "name", "gpus", "replicas", "cordoned")
        found = client.items("nodes", cluster=cluster)
        print_list(found, columns, output, empty="no agent has told of a node yet")


@app.command()
def retire(
    name: Annotated[str, typer.Argument(help="The cluster's name.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Refuse a cluster's agent for good; what ran there is placed elsewhere when its lease is over."""
    if not yes:
        typer.confirm(f"Give up {name} and all that runs there, for good?", abort=True)
    with context.client() as client:
        client.request("POST", f"clusters/{name}/retire")
    console.print(f"{name} is retired; what ran there is given up in about 10 s and placed elsewhere")
