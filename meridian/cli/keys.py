"""API keys."""

from datetime import datetime
from typing import Annotated

import typer

from meridian.cli import context
from meridian.cli.output import Format, FormatOption, console, print_document, print_list

app = typer.Typer(no_args_is_help=True, help="List, create and revoke the project's API keys.")

Name = Annotated[str, typer.Argument(help="The key's name.")]


Rpm = Annotated[int | None, typer.Option(min=0, help="Requests per minute; 0 = no limit.")]
Tpm = Annotated[int | None, typer.Option(min=0, help="Tokens per minute; 0 = no limit.")]
Concurrency = Annotated[int | None, typer.Option(min=0, help="Requests at once; 0 = no limit.")]
MaxPriority = Annotated[
    str | None, typer.Option(help="low, normal or high: what its requests may ask for at most.")
]


def _limits(
    rpm: int | None, tpm: int | None, concurrency: int | None, max_priority: str | None
) -> dict[str, object]:
    """The members that were given; 0 takes a limit away."""
    given = {"requests_per_minute": rpm, "tokens_per_minute": tpm, "concurrent_requests": concurrency}
    body: dict[str, object] = {name: value or None for name, value in given.items() if value is not None}
    return body if max_priority is None else {**body, "max_priority": max_priority}


@app.command("list")
def list_(output: FormatOption = Format.TABLE) -> None:
    """All keys of the project; the keys themselves are stored nowhere."""
    columns = ("name", "prefix", "scopes", "max_priority", "created_at", "expires_at", "last_used_at")
    with context.client() as client:
        print_list(client.items("api-keys"), columns, output, empty="no keys")


@app.command()
def create(
    name: Name,
    scope: Annotated[
        list[str] | None, typer.Option(help="inference, read, deploy or operate; may be repeated.")
    ] = None,
    *,
    expires_at: Annotated[datetime | None, typer.Option(help="When it ends to be valid (UTC).")] = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    concurrency: Concurrency = None,
    max_priority: MaxPriority = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Make a key. It is shown this once."""
    body: dict[str, object] = {"name": name, "scopes": scope or ["inference"]}
    if expires_at is not None:
        body["expires_at"] = f"{expires_at.isoformat()}Z"
    body |= _limits(rpm, tpm, concurrency, max_priority)
    with context.client() as client:
        created = client.request("POST", "api-keys", body=body)[0]
    if output is not Format.TABLE:
        print_document(created, output)
        return
    console.print(created["key"], highlight=False, soft_wrap=True)


@app.command()
def limit(
    name: Name,
    *,
    rpm: Rpm = None,
    tpm: Tpm = None,
    concurrency: Concurrency = None,
    max_priority: MaxPriority = None,
) -> None:
    """Change what a key may use. Connected gateways hold it within seconds; each counts for itself."""
    with context.client() as client:
        body = _limits(rpm, tpm, concurrency, max_priority)
        print_document(client.request("PATCH", f"api-keys/{name}", body=body)[0], Format.YAML)


@app.command()
def revoke(name: Name) -> None:
    """End a key. Connected gateways refuse it within 5 seconds."""
    with context.client() as client:
        key = next((item for item in client.items("api-keys") if item["name"] == name), None)
        client.request("DELETE", f"api-keys/{key['id'] if key else name}")
    console.print(f"{name} is revoked")
