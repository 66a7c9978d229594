"""Webhooks: where a pager hears of incidents."""

import time
from typing import Annotated

import typer

from meridian.cli import context
from meridian.cli.ids import id_begun
from meridian.cli.output import Format, FormatOption, console, print_document, print_list
from meridian.client import Client, Document
from meridian.errors import MeridianError, TimedOut

app = typer.Typer(no_args_is_help=True, help="Add, list, try and remove the webhooks that hear of incidents.")

POLL_S = 0.5
Id = Annotated[str, typer.Argument(metavar="ID", help="The webhook; the beginning of its id is enough.")]


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="https, at a domain that MERIDIAN_WEBHOOK_DOMAINS names.")],
    output: FormatOption = Format.TABLE,
) -> None:
    """Register a URL. The secret that signs its messages is shown this once."""
    with context.client() as client:
        made = client.request("POST", "webhooks", body={"url": url})[0]
    if output is not Format.TABLE:
        print_document(made, output)
        return
    console.print(made["secret"], highlight=False, soft_wrap=True)


@app.command("list")
def list_(output: FormatOption = Format.TABLE) -> None:
    """All webhooks of the organization; their secrets are stored nowhere."""
    with context.client() as client:
        print_list(
            client.items("webhooks"), ("id", "url", "created_by", "created_at"), output, empty="no webhooks"
        )


@app.command()
def remove(webhook_id: Id) -> None:
    """Send nothing there any more."""
    with context.client() as client:
        webhook = _named(client, webhook_id)
        client.request("DELETE", f"webhooks/{webhook['id']}")
    console.print(f"{webhook['url']} is removed", highlight=False, soft_wrap=True)


@app.command()
def test(
    webhook_id: Id,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")] = 30,
) -> None:
    """Send a message that says nothing, and tell what came of it."""
    with context.client() as client:
        webhook = _named(client, webhook_id)
        sent = client.request("POST", f"webhooks/{webhook['id']}/test")[0]
        delivery = _attempted(client, webhook, sent["id"], timeout_s)
    if delivery["state"] != "delivered":
        raise MeridianError(f"{webhook['url']} was not told: {delivery['answer']}; it is tried again")
    console.print(f"{webhook['url']} answered {delivery['answer']}", highlight=False, soft_wrap=True)


@app.command()
def log(webhook_id: Id, output: FormatOption = Format.TABLE) -> None:
    """What was sent there in the last thirty days, newest first, and what came of it."""
    columns = ("id", "type", "state", "attempts", "answer", "created_at", "next_at")
    with context.client() as client:
        found = client.items(f"webhooks/{_named(client, webhook_id)['id']}/deliveries")
        print_list(found, columns, output, empty="nothing was sent yet")


def _named(client: Client, webhook_id: str) -> Document:
    """The webhook whose id begins so. Raises NotFound, UsageError."""
    whole = id_begun(client, "webhooks", webhook_id, kind="webhook", listed_by="meridian webhooks list")
    return client.get(f"webhooks/{whole}")


def _attempted(client: Client, webhook: Document, delivery_id: str, timeout_s: float) -> Document:
    """The delivery once an attempt has come to an end. Raises TimedOut."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        rows: list[Document] = client.get(f"webhooks/{webhook['id']}/deliveries", limit=50)["items"]
        delivery = next((row for row in rows if row["id"] == delivery_id), None)
        if delivery is not None and delivery["answer"]:
            return delivery
        time.sleep(POLL_S)
    raise TimedOut(f"{webhook['url']} was not tried within {timeout_s:g} s; `meridian webhooks log` shows it")
