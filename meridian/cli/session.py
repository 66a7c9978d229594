"""Logging in, and the API's description."""

from typing import Annotated

import typer

from meridian.cli import context
from meridian.cli.output import console
from meridian.client import Client
from meridian.errors import UsageError


def login(
    api_url: Annotated[
        str, typer.Argument(help="Address of the control plane, like https://meridian.example.com.")
    ],
    inference_url: Annotated[
        str | None, typer.Option(help="Address of the endpoint or a gateway; `chat` needs it.")
    ] = None,
    api_key: Annotated[
        str,
        typer.Option(
            prompt="API key", hide_input=True, envvar="MERIDIAN_API_KEY", help="Asked for if not given."
        ),
    ] = "",
) -> None:
    """Remember a control plane and a key, after trying them."""
    for option, url in (("API_URL", api_url), ("--inference-url", inference_url)):
        if url is not None and not url.startswith(("http://", "https://")):
            raise UsageError(f"{option}: {url} is no address; write it like https://meridian.example.com")
    tried = context.Login(api_url.rstrip("/"), api_key, inference_url.rstrip("/") if inference_url else None)
    with Client(tried.api_url, tried.api_key) as client:
        client.get("deployments", limit=1)
    console.print(f"logged in to {tried.api_url}; kept in {context.login_store(tried)}")


def openapi() -> None:
    """Print the API's description (OpenAPI 3.1, YAML)."""
    with context.client() as client:
        typer.echo(client.openapi(), nl=False)
