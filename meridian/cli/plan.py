"""``meridian plan``: who runs where and why, what that costs and survives, and what would be if."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

import typer

from meridian.cli import context, plan_output
from meridian.cli.output import Format, FormatOption, console, print_document, print_list
from meridian.errors import ExitCode, UsageError

app = typer.Typer(
    no_args_is_help=True, help="Read plans: who runs where and why, what it costs, what it survives."
)

Generation = Annotated[str, typer.Argument(help="A plan's generation, or latest: the one in force.")]
PlanOption = Annotated[str, typer.Option("--plan", help="A plan's generation, or latest.")]
_LOSE = typer.Option(
    "--lose",
    metavar="KIND:NAME",
    help="What is lost: zone, region, provider, cluster, pool (cluster/pool) or spot_group"
    " (instance-type@zone). May be given several times.",
)

_Price = Annotated[
    list[str] | None,
    typer.Option(metavar="POOL=USD", help="An instance of cluster/pool costs this per hour."),
]
_Capacity = Annotated[
    list[str] | None, typer.Option(metavar="POOL=N", help="cluster/pool has so many instances.")
]
_AddPool = Annotated[
    list[str] | None,
    typer.Option(
        metavar="POOL=TYPE,PROCUREMENT,N,USD[,HAZARD]",
        help="A pool cluster/pool more: instance type, reserved, on_demand or spot, instances, USD per hour, and"
        " how often per hour an instance is taken back (0 if not given).",
    ),
]
_DemandFactor = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]FACTOR",
        help="So many times the demand, of one deployment or of all that you see in sums.",
    ),
]
_Survivability = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=KIND", help="A deployment must survive none, zone, region, provider."),
]
_MinReplicas = Annotated[
    list[str] | None, typer.Option("--min", metavar="NAME=N", help="A deployment's minimum.")
]
_MaxReplicas = Annotated[
    list[str] | None, typer.Option("--max", metavar="NAME=N", help="A deployment's maximum.")
]

T = TypeVar("T")


@app.command("list")
def list_(output: FormatOption = Format.TABLE) -> None:
    """All plans, newest first."""
    with context.client() as client:
        columns = ("plan_generation", "usd_per_h", "solve_s", "created_at")
        print_list(client.items("plans"), columns, output, empty="no plans yet; a deployment makes one")


@app.command()
def show(generation: Generation = "latest", output: FormatOption = Format.TABLE) -> None:
    """Deployments and where they run, what the plan costs, and which wishes it does not keep."""
    with context.client() as client:
        plan = client.plan(generation)
    if output is not Format.TABLE:
        print_document(plan, output)
        return
    plan_output.print_plan(plan)


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="The deployment's name.")],
    generation: PlanOption = "latest",
    output: FormatOption = Format.TABLE,
) -> None:
    """Why a deployment is where it is: every pool with its reasons, and what the deployment survives."""
    with context.client() as client:
        plan = client.get(f"plans/{generation}", deployment=name)
    if output is not Format.TABLE:
        print_document(plan, output)
        return
    plan_output.print_reasons(plan["deployments"][0])
    console.print()
    plan_output.print_losses(plan["certificate"]["losses"])


@app.command()
def survive(
    lose: Annotated[list[str], _LOSE],
    generation: PlanOption = "latest",
    promised: Annotated[
        bool, typer.Option("--promised", help="Judge only deployments whose survivability covers the loss.")
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """What would still be served without these. Ends with 0 if all of it is, else with 1."""
    with context.client() as client:
        answer = client.get(f"plans/{generation}/survive", lose=lose)
    survives = bool(answer["keeps_promises"] if promised else answer["survives"])
    if output is Format.TABLE:
        plan_output.print_survival(answer)
    else:
        print_document(answer, output)
    if not survives:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def diff(
    old: Annotated[
        int | None, typer.Argument(help="The plan before; without it, the one before the new.")
    ] = None,
    new: Annotated[str, typer.Argument(help="The plan after.")] = "latest",
    output: FormatOption = Format.TABLE,
) -> None:
    """What changes from one plan to another: moves, money, wishes."""
    with context.client() as client:
        answer = client.get(f"plans/{new}/diff", against=old)
    if output is not Format.TABLE:
        print_document(answer, output)
        return
    plan_output.print_diff(answer)


@app.command("what-if")
def what_if(
    *,
    lose: Annotated[list[str] | None, _LOSE] = None,
    price: _Price = None,
    capacity: _Capacity = None,
    add_pool: _AddPool = None,
    demand: _DemandFactor = None,
    survivability: _Survivability = None,
    min_replicas: _MinReplicas = None,
    max_replicas: _MaxReplicas = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """What would be planned if the world were otherwise. Changes nothing."""
    document = {
        "lose": lose or [],
        "prices": [
            {"pool": pool, "price_usd_per_h": value} for pool, value in _pairs(price, "--price", "POOL=USD")
        ],
        "capacities": [
            {"pool": pool, "capacity_instances": _number(value, "--capacity", int)}
            for pool, value in _pairs(capacity, "--capacity", "POOL=N")
        ],
        "add_pools": [_added(*pair) for pair in _pairs(add_pool, "--add-pool", _ADDED_FORM)],
        "demand": [_demand(text) for text in demand or []],
        "deployments": _wishes(survivability, min_replicas, max_replicas),
    }
    asked = {part: rows for part, rows in document.items() if rows}
    if not asked:
        raise UsageError("nothing would be otherwise; give --lose, --price, --add-pool or another change")
    with context.client() as client:
        answer = client.plan_what_if(asked)
    if output is not Format.TABLE:
        print_document(answer, output)
        return
    plan_output.print_diff(answer["diff"])
    plan_output.print_broken(answer["certificate"])
    plan_output.print_solved(answer)
    console.print("nothing was changed")


_ADDED_FORM = (
    "CLUSTER/POOL=TYPE,PROCUREMENT,INSTANCES,USD[,HAZARD_PER_H],"
    " such as eu-west/more=a100-8x,on_demand,2,21.50 or eu-west/more=a100-8x,spot,2,8.60,0.05"
)


def _pairs(given: Iterable[str] | None, option: str, form: str) -> Iterator[tuple[str, str]]:
    for text in given or ():
        name, found, value = text.rpartition("=")
        if not (found and name and value):
            raise UsageError(f"{option} {text!r}: give it as {form}")
        yield name, value


def _number(value: str, option: str, read: Callable[[str], T]) -> T:
    try:
        number = read(value)
    except ValueError:
        raise UsageError(f"{option}: {value!r} is {'no whole' if read is int else 'not a'} number") from None
    if isinstance(number, float) and not math.isfinite(number):
        raise UsageError(f"{option}: {value!r} is no finite number")
    return number


def _added(name: str, facts: str) -> Mapping[str, Any]:
    cluster, slash, pool = name.partition("/")
    parts = facts.split(",")
    if not slash or not 4 <= len(parts) <= 5:
        raise UsageError(f"--add-pool {name}={facts}: give it as {_ADDED_FORM}")
    hazard = {"hazard_per_h": _number(parts[4], "--add-pool", float)} if len(parts) == 5 else {}
    return {
        "cluster": cluster,
        "name": pool,
        "instance_type": parts[0],
        "procurement": parts[1],
        "capacity_instances": _number(parts[2], "--add-pool", int),
        "price_usd_per_h": parts[3],
        **hazard,
    }


def _demand(text: str) -> Mapping[str, Any]:
    name, named, factor = text.rpartition("=")
    row = {"factor": _number(factor, "--demand", float)}
    return {"deployment": name, **row} if named else row


def _wishes(
    survivability: Iterable[str] | None, least: Iterable[str] | None, most: Iterable[str] | None
) -> list[dict[str, Any]]:
    """What deployments would want, all of one's in one row."""
    rows: dict[str, dict[str, Any]] = {}
    for name, kind in _pairs(survivability, "--survivability", "NAME=KIND"):
        rows.setdefault(name, {"name": name})["survivability"] = kind
    for option, field, given in (("--min", "min_replicas", least), ("--max", "max_replicas", most)):
        for name, value in _pairs(given, option, "NAME=N"):
            rows.setdefault(name, {"name": name})[field] = _number(value, option, int)
    return list(rows.values())
