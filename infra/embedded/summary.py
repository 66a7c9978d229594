"""What ``up`` prints when all is well: where to go, and two lines to try."""

from __future__ import annotations

import json
import shlex
from typing import Any

from infra.embedded.bring_up import UpResult
from infra.embedded.layout import CHECKOUT
from infra.embedded.parts import VLLM


def lines(result: UpResult) -> list[str]:
    """The page, line by line."""
    endpoints = result.endpoints
    gateways = [
        f"             {region:<13} {url}  {_engine(result, url)}"
        for region, url in endpoints["gateways"].items()
    ]
    return [
        "",
        "Meridian is up." if not result.was_up else "Meridian is up already.",
        "",
        f"  console    {endpoints['console']}  ({endpoints['admin_user']} / {endpoints['admin_password']})",
        f"  edge       {endpoints['edge']}  (the nearest gateway that is healthy)",
        "  gateways",
        *gateways,
        f"  API key    {endpoints['api_key']}",
        "",
        "Try (the example model is random: its answers are nonsense, everything else is real):",
        "",
        f"  {curl_line(endpoints)}",
        "",
        f"  {chat_line()}",
        "",
    ]


def curl_line(endpoints: dict[str, Any]) -> str:
    """A streamed chat, as a command that works when pasted."""
    body = json.dumps(
        {
            "model": "chat",
            "stream": True,
            "max_tokens": 32,
            "messages": [{"role": "user", "content": "Hello"}],
        },
        separators=(",", ":"),
    )
    return (
        f"curl -N {endpoints['edge']}/v1/chat/completions "
        f"-H 'Authorization: Bearer {endpoints['api_key']}' "
        f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )


def chat_line() -> str:
    """The same with Meridian's own command."""
    return f"{shlex.quote(str(CHECKOUT / '.venv' / 'bin' / 'meridian'))} chat chat Hello"


def _engine(result: UpResult, gateway_url: str) -> str:
    world = result.world
    return "real vLLM" if world.engine_in(world.cluster_at(gateway_url)) == VLLM else "simulator"
