"""``meridian explain``: why a request went where it went."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer

from meridian.cli import context, gateways
from meridian.cli.output import Format, FormatOption, print_list
from meridian.errors import MeridianError, NotFound, Unreachable

_TIMEOUT_S = 3.0
_COLUMNS = ("at", "gateway", "deployment", "choice", "target", "reasons", "tried", "ready_replicas")


def explain(
    request_id: Annotated[str, typer.Argument(help="What the answer's header x-request-id says.")],
    gateway: gateways.GatewayOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Why a request went where it went: each choice that each region's gateway made for it, in order."""
    with context.client() as client:
        asked = gateways.known(client, gateway)
        names = {**gateways.deployment_names(client), **gateways.cluster_names(client)}
    choices: list[dict[str, Any]] = []
    unread: list[str] = []
    with httpx.Client(timeout=_TIMEOUT_S) as http:
        for cluster, url in asked.items():
            try:
                choices += [_shown(made, cluster, names) for made in _choices(http, url, request_id)]
            except Unreachable as error:
                unread.append(str(error))
    if not choices:
        if unread:
            raise Unreachable("; ".join(unread))
        raise NotFound(
            f"no gateway keeps a choice for {request_id!r}: they keep those of their latest requests, for their "
            "operators' networks only"
        )
    print_list(sorted(choices, key=lambda made: made["at"]), _COLUMNS, output, empty="")


def _choices(http: httpx.Client, url: str, request_id: str) -> list[dict[str, Any]]:
    """A gateway's choices for the request, none if it keeps none. Raises Unreachable, MeridianError."""
    try:
        answer = http.get(f"{url}/debug/explain/{quote(request_id, safe='')}")
        if answer.status_code == 404:
            return []
        answer.raise_for_status()
        return list(answer.json()["choices"])
    except httpx.TransportError as error:
        raise Unreachable(f"{url} does not answer ({error})") from error
    except (httpx.HTTPStatusError, ValueError, KeyError) as error:
        raise MeridianError(f"{url} gave no explanation that can be read ({error})") from error


def _shown(made: Mapping[str, Any], cluster: str, names: Mapping[str, str]) -> dict[str, Any]:
    deployment_id = made["deployment_id"]
    return {
        **made,
        "at": datetime.fromtimestamp(made["at"], UTC).isoformat(),
        "gateway": cluster,
        "deployment": names.get(deployment_id, deployment_id),
        "target": names.get(made["target"], made["target"]),
    }
