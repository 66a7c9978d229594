"""``meridian logs``: what a deployment's replicas say."""

import sys
import time
from typing import Annotated, Any

import typer

from meridian.cli import context
from meridian.cli.output import errors
from meridian.client import Client
from meridian.errors import MeridianError, TimedOut, Unreachable

_EVERY_S = 1.0
_FIRST_WITHIN_S = 15.0


def logs(
    deployment: Annotated[str, typer.Argument(help="The deployment's name.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until ^C, which exits 0.")] = False,
    replica: Annotated[
        str | None, typer.Option(help="Only this one, also one that has ended: its id, or its first 8 signs.")
    ] = None,
    tail: Annotated[int, typer.Option(min=0, max=10_000, help="Begin with so many lines of each.")] = 100,
) -> None:
    """Print the logs of a deployment's replicas, delivered by their clusters on demand."""
    try:
        with context.client() as client:
            path = f"deployments/{deployment}/logs"
            reading = _first(client, path, replica, tail)
            _tell_silent(reading, follow=follow)
            while True:
                _print(reading)
                if not follow:
                    return
                time.sleep(_EVERY_S)
                reading = client.get(path, replica=replica, after=reading["cursor"])
    except KeyboardInterrupt:
        return


def _first(client: Client, path: str, replica: str | None, tail: int) -> dict[str, Any]:
    """The first reading for which no cluster that is there is waited for. Raises TimedOut."""
    deadline = time.monotonic() + _FIRST_WITHIN_S
    while True:
        reading = client.get(path, replica=replica, tail=tail)
        waiting = sorted({row["cluster"] for row in reading["replicas"] if row["delivery"] == "waiting"})
        if not waiting:
            return reading
        if time.monotonic() > deadline:
            raise TimedOut(f"no log came from {', '.join(waiting)}; is its agent of this version? try again")
        time.sleep(_EVERY_S / 4)


def _tell_silent(reading: dict[str, Any], *, follow: bool) -> None:
    """On stderr, of whom nothing will be seen; fails if that is everybody and nobody waits."""
    if not reading["replicas"]:
        raise MeridianError("it has no replica yet; see `meridian events`")
    silent = [row for row in reading["replicas"] if row["delivery"] != "delivered"]
    said = [f"replica {row['replica'][:8]} in {row['cluster']}: {_WHY[row['delivery']]}" for row in silent]
    if len(silent) == len(reading["replicas"]) and not follow:
        is_away = any(row["delivery"] == "agent_away" for row in silent)
        raise (Unreachable if is_away else MeridianError)("; ".join(said))
    for line in said:
        errors.print(f"meridian: {line}", markup=False, highlight=False, soft_wrap=True)


_WHY = {
    "agent_away": "its cluster's agent is not heard from",
    "no_log": "its cluster keeps no log of it (any more)",
}


def _print(reading: dict[str, Any]) -> None:
    several = len(reading["replicas"]) > 1
    for item in reading["items"]:
        mark = f"{item['replica'][:8]} | " if several else ""
        for line in item["text"].split("\n")[: None if not item["text"].endswith("\n") else -1]:
            sys.stdout.write(f"{mark}{line}\n")
    sys.stdout.flush()
