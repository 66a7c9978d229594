"""Reservations: instances that are paid for whether used or not."""

from datetime import datetime
from typing import Annotated

import typer

from meridian.cli import context
from meridian.cli.ids import id_begun
from meridian.cli.output import Format, FormatOption, console, print_document, print_list
from meridian.cli.pools import Place, pool_find
from meridian.client import Client
from meridian.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="List, note, change and forget reservations of reserved pools.")

Id = Annotated[str, typer.Argument(metavar="ID", help="As `meridian reservations list` shows it, or whole.")]
Price = Annotated[str | None, typer.Option(help="USD for an instance and hour.")]
Instances = Annotated[int | None, typer.Option(min=1, help="How many are paid for.")]
Starts = Annotated[datetime | None, typer.Option(help="From when (UTC).")]
Ends = Annotated[datetime | None, typer.Option(help="Until when (UTC).")]


def _given(
    instances: int | None, price: str | None, starts: datetime | None, ends: datetime | None
) -> dict[str, object]:
    given = {
        "instances": instances,
        "price_usd_per_h": price,
        "starts_at": f"{starts.isoformat()}Z" if starts else None,
        "ends_at": f"{ends.isoformat()}Z" if ends else None,
    }
    return {name: value for name, value in given.items() if value is not None}


@app.command("list")
def list_(output: FormatOption = Format.TABLE) -> None:
    """All reservations of the organization."""
    with context.client() as client:
        names = {pool["id"]: pool["name"] for pool in client.items("pools")}
        rows = [{**row, "pool_name": names.get(row["pool"])} for row in client.items("reservations")]
    columns = ("id", "cluster", "pool_name", "instances", "price_usd_per_h", "starts_at", "ends_at")
    print_list(rows, columns, output, empty="no reservations")


@app.command()
def advise(
    *,
    region: Annotated[str | None, typer.Option(help="Only in this region.")] = None,
    instance_type: Annotated[str | None, typer.Option(help="Only instances of this type.")] = None,
    price: Annotated[
        str | None, typer.Option(help="USD for an instance and hour as offered; else as last reserved.")
    ] = None,
    term_days: Annotated[
        int | None, typer.Option(min=1, max=1826, help="How long it would last (365).")
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Say how many instances are worth reserving, by what was in use and what is rented instead."""
    given = {
        "region": region,
        "instance_type": instance_type,
        "price_usd_per_h": price,
        "term_days": term_days,
    }
    with context.client() as client:
        rows = client.request("GET", "reservations/advice", query=given)[0]["items"]
    columns = (
        "region", "instance_type", "known_h", "instances_mean", "instances_most", "reserved_instances",
        "advised_instances", "price_usd_per_h", "usd_per_h_now", "usd_per_h",
    )  # fmt: skip
    print_list(rows, columns, output, empty="no pools")
    if output is Format.TABLE:
        for row in rows:
            console.print(
                f"{row['instance_type']} in {row['region']}: {'; '.join(row['reasons'])}",
                markup=False,
                highlight=False,
            )


@app.command()
def create(place: Place, *, instances: Instances, price: Price, starts: Starts, ends: Ends) -> None:
    """Note a reservation of a reserved pool."""
    with context.client() as client:
        body = {"pool": pool_find(client, place)["id"], **_given(instances, price, starts, ends)}
        print_document(client.request("POST", "reservations", body=body)[0], Format.YAML)


@app.command()
def change(
    reservation: Id,
    *,
    instances: Instances = None,
    price: Price = None,
    starts: Starts = None,
    ends: Ends = None,
) -> None:
    """Enlarge, price anew, renew or end one early. Placement looks at it at once."""
    body = _given(instances, price, starts, ends)
    if not body:
        raise UsageError("nothing to change: give --instances, --price, --starts or --ends")
    with context.client() as client:
        address = f"reservations/{_whole(client, reservation)}"
        print_document(client.request("PATCH", address, body=body)[0], Format.YAML)


@app.command()
def delete(reservation: Id) -> None:
    """Forget a reservation."""
    with context.client() as client:
        client.request("DELETE", f"reservations/{_whole(client, reservation)}")
    console.print("it is forgotten")


def _whole(client: Client, shown: str) -> str:
    return id_begun(client, "reservations", shown, kind="reservation", listed_by="meridian reservations list")
