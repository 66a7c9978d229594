"""API keys."""

from datetime import datetime
from typing import Annotated

import typer

from meridian.cli import context
from meridian.cli.output import Format, FormatOption, console, print_document, print_list

app = typer.Typer(no_args_is_help=True, help="List, create and revoke the project's API keys.")

Name = Annotated[str, typer.Argument(help="The key's name.")]


@app.command("list")
def list_(output: FormatOption = Format.TABLE) -> None:
    """All keys of the project; the keys themselves are stored nowhere."""
    columns = ("name", "prefix", "scopes", "created_at", "expires_at", "last_used_at")
    with context.client() as client:
        print_list(client.items("api-keys"), columns, output, empty="no keys")


@app.command()
def create(
    name: Name,
    scope: Annotated[
        list[str] | None, typer.Option(help="inference, read, deploy or operate; may be repeated.")
    ] = None,
    expires_at: Annotated[datetime | None, typer.Option(help="When it ends to be valid (UTC).")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Make a key. It is shown this once."""
    body: dict[str, object] = {"name": name, "scopes": scope or ["inference"]}
    if expires_at is not None:
        body["expires_at"] = f"{expires_at.isoformat()}Z"
    with context.client() as client:
        created = client.request("POST", "api-keys", body=body)[0]
    if output is not Format.TABLE:
        print_document(created, output)
        return
    console.print(created["key"], highlight=False, soft_wrap=True)


@app.command()
def revoke(name: Name) -> None:
    """End a key. Connected gateways refuse it within 5 seconds."""
    with context.client() as client:
        key = next((item for item in client.items("api-keys") if item["name"] == name), None)
        client.request("DELETE", f"api-keys/{key['id'] if key else name}")
    console.print(f"{name} is revoked")
