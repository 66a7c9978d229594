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
