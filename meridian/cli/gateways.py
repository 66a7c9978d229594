"""Which gateways a command asks itself, and the names of what they know by ids."""

from typing import Annotated

import httpx
import typer

from meridian.client import Client
from meridian.errors import ApiError, MeridianError, Unreachable, UsageError

GatewayOption = Annotated[
    list[str] | None,
    typer.Option(help="A gateway's address; may be given several times. Default: those of every region."),
]


def known(client: Client, given: list[str] | None) -> dict[str, str]:
    """Cluster (or address) -> address. Raises UsageError, Unreachable."""
    if given:
        for url in given:
            if not url.startswith(("http://", "https://")):
                raise UsageError(f"--gateway: {url!r} is not an address; give one like http://127.0.0.1:8881")
        return {url.rstrip("/"): url.rstrip("/") for url in given}
    try:
        regions = client.regions()["regions"]
    except httpx.TransportError as error:
        raise Unreachable(f"the gateway does not answer: {error}; is it up? `meridian status`") from error
    found = {region["cluster"]: region["url"].rstrip("/") for region in regions if region["url"]}
    if not found:
        raise MeridianError("no gateway is known yet; give one with --gateway")
    return found


def deployment_names(client: Client) -> dict[str, str]:
    """Deployment id -> name, as far as the project's own go and the control plane answers."""
    return _names(client, "deployments")


def cluster_names(client: Client) -> dict[str, str]:
    """Cluster id -> name, as far as the control plane answers."""
    return _names(client, "clusters")


def _names(client: Client, collection: str) -> dict[str, str]:
    try:
        return {item["id"]: item["name"] for item in client.items(collection)}
    except (ApiError, Unreachable):
        return {}
