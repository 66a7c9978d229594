"""Looking at deployments and changing them."""

from typing import Annotated

import typer

from meridian.cli import context
from meridian.cli.deploy import wait_until_ready
from meridian.cli.output import Format, FormatOption, console, print_document, print_list

app = typer.Typer(no_args_is_help=True, help="List, read, delete and roll back deployments.")

Name = Annotated[str, typer.Argument(help="The deployment's name.")]


@app.command("list")
def list_(output: FormatOption = Format.TABLE) -> None:
    """All deployments of the project."""
    with context.client() as client:
        columns = ("name", "model", "engine", "replicas.ready", "replicas.desired", "residency", "created_at")
        print_list(
            client.items("deployments"),
            columns,
            output,
            empty="no deployments; make one with `meridian deploy`",
        )


@app.command()
def get(name: Name, output: FormatOption = Format.TABLE) -> None:
    """One deployment, with its conditions."""
    with context.client() as client:
        deployment = client.get(f"deployments/{name}")
    if output is not Format.TABLE:
        print_document(deployment, output)
        return
    counts = deployment["replicas"]
    console.print(f"[bold]{name}[/]  {deployment['model']} on {deployment['engine']}", highlight=False)
    console.print(f"replicas {counts['ready']} of {counts['desired']} ready", highlight=False)
    columns = ("type", "status", "reason", "message")
    print_list(deployment["conditions"], columns, output, empty="no conditions yet")


@app.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Drain a deployment and delete it."""
    if not yes:
        typer.confirm(f"Drain and delete {name}?", abort=True)
    with context.client() as client:
        client.request("DELETE", f"deployments/{name}")
    console.print(f"{name} is draining; it is gone when its last request has ended")


@app.command()
def rollback(
    name: Name,
    revision: Annotated[int, typer.Option(help="The revision to go back to.")],
    wait: Annotated[bool, typer.Option(help="Wait until it serves.")] = True,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")] = 900,
) -> None:
    """Run again what an earlier revision ran; it becomes a new revision."""
    with context.client() as client:
        answer = client.request("POST", f"deployments/{name}/rollback", body={"revision": revision})[0]
        if wait:
            wait_until_ready(client, name, generation=int(answer["generation"]), timeout_s=timeout_s)
    console.print(f"{name} runs what revision {revision} ran, as revision {answer['revision']}")


def replicas(
    deployment: Annotated[str | None, typer.Argument(help="Only those of this deployment.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Replicas, with the engine that truly runs and the seconds of each phase of their start."""
    path = f"deployments/{deployment}/replicas" if deployment else "replicas"
    columns = ("id", "deployment", "revision", "cluster", "pool", "engine", "state", "phase", "cold_start")
    with context.client() as client:
        print_list(client.items(path), columns, output, empty="no replicas")


def events(
    deployment: Annotated[str | None, typer.Argument(help="Only those of this deployment.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """What happened, newest first."""
    path = f"deployments/{deployment}/events" if deployment else "events"
    with context.client() as client:
        newest = client.get(path, limit=100)["items"]
    print_list(newest, ("at", "severity", "reason", "message"), output, empty="nothing happened yet")
