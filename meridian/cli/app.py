"""The command's tree: which verbs there are, and how failures end."""

import sys
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from meridian.cli import (
    chat,
    clusters,
    deploy,
    deployments,
    drills,
    fleet,
    keys,
    models,
    plan,
    pools,
    profiles,
    reservations,
    session,
    webhooks,
)
from meridian.cli.drains import drain, drains, undrain
from meridian.cli.explain import explain
from meridian.cli.incidents import incidents, regions
from meridian.cli.load import load
from meridian.cli.local import down, reset, restart, status, up
from meridian.cli.logs import logs
from meridian.cli.output import errors
from meridian.cli.simulate import simulate
from meridian.cli.top import top
from meridian.errors import ExitCode, MeridianError

EPILOG = "Exit codes: " + ", ".join(
    f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ExitCode
)

app = typer.Typer(
    name="meridian",
    help="Serve language models on GPUs rented from many clouds as if they were one pool.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_INTERRUPTED = "interrupted"
#: What typer makes of a KeyboardInterrupt in a verb.
_TYPER_INTERRUPTED = 130

HERE = "This machine"
WORK = "Deployments"
FLEET = "Fleet and access"

for verb in (up, down, status, restart, reset, simulate):
    app.command(rich_help_panel=HERE)(verb)
app.command(rich_help_panel=FLEET)(session.login)
app.command(rich_help_panel=WORK)(deploy.deploy)
app.add_typer(deployments.app, name="deployments", rich_help_panel=WORK)
app.command(rich_help_panel=WORK)(deployments.replicas)
app.command(rich_help_panel=WORK)(deployments.events)
app.command(rich_help_panel=WORK)(logs)
app.command(rich_help_panel=WORK)(chat.chat)
app.command(rich_help_panel=WORK)(load)
app.command(rich_help_panel=WORK)(top)
app.command(rich_help_panel=WORK)(explain)
app.add_typer(plan.app, name="plan", rich_help_panel=WORK)
app.command(rich_help_panel=FLEET)(fleet.fleet)
app.add_typer(clusters.app, name="clusters", rich_help_panel=FLEET)
app.add_typer(pools.app, name="pools", rich_help_panel=FLEET)
app.command(rich_help_panel=FLEET)(clusters.nodes)
app.command(rich_help_panel=FLEET)(drain)
app.command(rich_help_panel=FLEET)(undrain)
app.command(rich_help_panel=FLEET)(drains)
app.add_typer(drills.app, name="drill", rich_help_panel=FLEET)
app.command(rich_help_panel=FLEET)(incidents)
app.command(rich_help_panel=FLEET)(regions)
app.add_typer(webhooks.app, name="webhooks", rich_help_panel=FLEET)
app.add_typer(reservations.app, name="reservations", rich_help_panel=FLEET)
app.add_typer(models.app, name="models", rich_help_panel=WORK)
app.add_typer(profiles.app, name="profile", rich_help_panel=WORK)
app.add_typer(keys.app, name="keys", rich_help_panel=FLEET)
app.add_typer(keys.app, name="tokens", hidden=True)  # what many other tools call them
app.command(rich_help_panel=FLEET)(session.openapi)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed_version

        typer.echo(installed_version("meridian-serving"))
        raise typer.Exit


def main() -> None:
    """Run the command and exit with one of ``ExitCode``."""
    try:
        code = app(standalone_mode=False)  # what typer.Exit carried, if a verb raised it
    except MeridianError as error:
        _end(str(error), error.exit_code)
    except TyperException as error:
        _end(error.format_message() if hasattr(error, "format_message") else str(error), ExitCode.USAGE)
    except (Abort, KeyboardInterrupt):
        _end(_INTERRUPTED, ExitCode.FAILED)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has enough of it
    else:
        if code == _TYPER_INTERRUPTED:
            _end(_INTERRUPTED, ExitCode.FAILED)
        sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _end(message: str, code: ExitCode) -> None:
    errors.print(f"meridian: {' '.join(message.split())}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)
