"""``meridian chat``: talk to a deployment."""

import sys
from typing import Annotated, Any

import typer

from meridian.cli import context
from meridian.cli.output import console
from meridian.client import Client


def chat(
    deployment: Annotated[str, typer.Argument(help="The deployment's name.")],
    message: Annotated[str | None, typer.Argument(help="What to say; without it, a conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The answer's length at most.")] = 128,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0 = always the likeliest token.")
    ] = None,
) -> None:
    """Say something to a deployment; the answer appears as it is generated."""
    options: dict[str, Any] = {"max_tokens": max_tokens}
    if temperature is not None:
        options["temperature"] = temperature
    history: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    with context.client() as client:
        if message is not None:
            _say(client, deployment, [*history, {"role": "user", "content": message}], options)
            return
        console.print(f"Talking to {deployment}; an empty line ends it.", style="dim")
        while said := _ask():
            history.append({"role": "user", "content": said})
            history.append({"role": "assistant", "content": _say(client, deployment, history, options)})


def _ask() -> str:
    try:
        return console.input("[bold]> [/]").strip()
    except EOFError:
        return ""


def _say(client: Client, deployment: str, messages: list[dict[str, Any]], options: dict[str, Any]) -> str:
    pieces: list[str] = []
    for piece in client.chat(deployment, messages, **options):
        pieces.append(piece)
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return "".join(pieces)
