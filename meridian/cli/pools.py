"""GPU pools: what they have, what they cost, whether anything is sent there."""

from typing import Annotated

import typer

from meridian.cli import context
from meridian.cli.output import Format, FormatOption, print_document, print_list
from meridian.client import Client, Document
from meridian.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="List GPU pools; resize, price and close them.")

Place = Annotated[str, typer.Argument(metavar="CLUSTER/POOL", help="As `meridian pools list` names them.")]


@app.command("list")
def list_(output: FormatOption = Format.TABLE) -> None:
    """All pools of the organization."""
    columns = (
        "cluster", "name", "procurement", "instance_type", "capacity_instances", "price_usd_per_h", "hazard_per_h",
        "obtainability", "schedulable",
    )  # fmt: skip
    with context.client() as client:
        print_list(client.items("pools"), columns, output, empty="no pools; make one in the API")


@app.command()
def change(
    place: Place,
    *,
    capacity: Annotated[
        int | None,
        typer.Option(min=0, help="Instances, for good; what finds no room any more moves first."),
    ] = None,
    price: Annotated[str | None, typer.Option(help="USD for an instance and hour, from now on.")] = None,
    hazard: Annotated[float | None, typer.Option(help="Expected losses of an instance per hour.")] = None,
    obtainability: Annotated[
        float | None, typer.Option(help="Of instances asked for, the share that is had.")
    ] = None,
    schedulable: Annotated[
        bool | None, typer.Option(help="Whether anything new is sent there; what runs stays.")
    ] = None,
) -> None:
    """Change a pool. Placement looks at it at once."""
    given = {
        "capacity_instances": capacity,
        "price_usd_per_h": price,
        "hazard_per_h": hazard,
        "obtainability": obtainability,
        "schedulable": schedulable,
    }
    body = {name: value for name, value in given.items() if value is not None}
    if not body:
        raise UsageError("nothing to change: give --capacity, --price or another option")
    with context.client() as client:
        found = pool_find(client, place)
        print_document(client.request("PATCH", f"pools/{found['id']}", body=body)[0], Format.YAML)


def pool_find(client: Client, place: str) -> Document:
    """The pool that ``CLUSTER/POOL`` names. Raises UsageError with those there are."""
    cluster, _, name = place.partition("/")
    there = list(client.items("pools", cluster=cluster))
    for pool in there:
        if pool["name"] == name:
            return pool
    known = ", ".join(f"{pool['cluster']}/{pool['name']}" for pool in there)
    raise UsageError(f"no pool {place}; known in {cluster}: {known or 'none (write CLUSTER/POOL)'}")
