"""``meridian profile``: what one replica does at rising concurrencies, and which of them keeps its goals."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from meridian.cli import context
from meridian.cli.load import endpoint
from meridian.cli.output import Format, FormatOption, console, errors, print_document, print_list
from meridian.client import Client
from meridian.errors import ApiError, MeridianError, NotFound, Unreachable, UsageError
from meridian.load import Target
from meridian.plot import curve_svg
from meridian.profiling import Measured, input_tokens, measure
from workloadplane.words import counted

app = typer.Typer(no_args_is_help=True, help="Measure replicas, and read from it how large to make them.")

_POINTS_MAX = 64
_CONCURRENCY_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """What is measured. ``replicas``: how many share the clients; ``model``: the catalog's name@version, if known."""

    target: Target
    replicas: int
    name: str
    model: str | None
    goals: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Shape:
    """What was measured on what, for keeping it; ``replace``: in place of what is held of the same."""

    model: str
    instance_type: str
    tensor_parallel: int
    replace: bool


@dataclass(frozen=True, slots=True)
class _Engine:
    """One that is asked itself. ``model``: the catalog's name@version of what it serves, if that is known."""

    url: str
    key: str
    served_model: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class _Work:
    """What each request asks for."""

    input_words: int
    max_tokens: int


@app.command("list")
def list_(
    model: Annotated[str | None, typer.Option(help="Only those of this model.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """What was measured of the project's models, and the size that keeps the goals."""
    columns = ("model", "version", "instance_type", "tensor_parallel", "requests_per_s", "tokens_per_s",
               "concurrency", "sizing.max_num_batched_tokens", "id")  # fmt: skip
    query = {} if model is None else {"model": model}
    with context.client() as client:
        found = client.items("performance-profiles", **query)
        print_list(found, columns, output, empty="nothing was measured yet; see `meridian profile run`")


@app.command()
def run(
    *,
    deployment: Annotated[
        str | None, typer.Option(help="Measure its replicas, through its endpoint.")
    ] = None,
    engine_url: Annotated[
        str | None, typer.Option(help="Measure one engine itself, at this address without a path.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With --engine-url: the catalog's name@version; else the deployment's.")
    ] = None,
    served_model: Annotated[
        str | None, typer.Option(help="With --engine-url: the name that the engine serves.")
    ] = None,
    engine_key: Annotated[
        str, typer.Option(envvar="MERIDIAN_ENGINE_KEY", help="With --engine-url: its API key.")
    ] = "",
    concurrency: Annotated[
        str, typer.Option(help="Side by side for each replica, with commas.")
    ] = "1,2,4,8,16,32",
    stretch_s: Annotated[
        float, typer.Option("--stretch", min=1, max=3600, help="Seconds for each concurrency.")
    ] = 15.0,
    input_words: Annotated[int, typer.Option(min=1, max=100_000, help="Of each prompt.")] = 128,
    max_tokens: Annotated[int, typer.Option(min=2, max=100_000, help="Of each answer, made in full.")] = 64,
    ttft_s: Annotated[
        float | None, typer.Option("--slo-ttft", min=0.001, max=3600, help="Goal: p95 of the first token.")
    ] = None,
    gap_s: Annotated[
        float | None, typer.Option("--slo-itl", min=0.0001, max=3600, help="Goal: p95 between tokens.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the curve there, as SVG.")] = None,
    save: Annotated[bool, typer.Option("--save", help="Keep it as a PerformanceProfile.")] = False,
    instance_type: Annotated[
        str | None, typer.Option(help="With --save: the name of the machine that was measured.")
    ] = None,
    tensor_parallel: Annotated[
        int, typer.Option(min=1, max=1024, help="With --save: GPUs of a replica.")
    ] = 1,
    replace: Annotated[
        bool, typer.Option("--replace", help="With --save: in place of what was measured there before.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed asks the same.")] = 0,
    output: FormatOption = Format.TABLE,
) -> None:
    """Measure replicas with continuous batching, and tell the concurrency that keeps the goals."""
    wanted = _concurrencies(concurrency)
    _choice_check(deployment, engine_url, instance_type, save=save)
    if plot is not None:
        _plot_check(plot)
    given = {"ttft_s_p95": ttft_s, "inter_token_latency_s_p95": gap_s}
    goals = {name: value for name, value in given.items() if value is not None}
    work = _Work(input_words, max_tokens)
    if deployment is not None:
        subject = _of_deployment(deployment, goals, work)
    else:
        subject = _of_engine(_Engine(str(engine_url), engine_key, served_model, model), goals, work)
    shape = _shape(subject, str(instance_type), tensor_parallel, replace=replace) if save else None
    tokens, points = asyncio.run(_measure(subject, wanted, stretch_s, seed))
    _conclude(subject, tokens, points, shape, plot=plot, output=output)


def _choice_check(
    deployment: str | None, engine_url: str | None, instance_type: str | None, *, save: bool
) -> None:
    """Raises UsageError."""
    if (deployment is None) == (engine_url is None):
        raise UsageError("give --deployment NAME or --engine-url URL, one of them")
    if save and instance_type is None:
        raise UsageError(
            "--save wants --instance-type NAME: on which machine was it measured? `meridian pools`"
        )


def _plot_check(path: Path) -> None:
    """Looked at before minutes go into measuring: raises UsageError where no picture can be written."""
    stood = path.exists()
    try:
        with path.open("a"):
            pass
        if not stood:
            path.unlink()
    except OSError as error:
        raise _not_drawn(path, error) from error


def _not_drawn(path: Path, error: OSError) -> UsageError:
    return UsageError(f"--plot {path}: {error.strerror}; give a file that can be written")


def _shape(subject: _Subject, instance_type: str, tensor_parallel: int, *, replace: bool) -> _Shape:
    """Looked at before minutes go into measuring: raises NotFound, UsageError where it can't be kept."""
    if subject.model is None:
        raise UsageError("--save wants --model NAME@VERSION: of what was it measured? `meridian models list`")
    shape = _Shape(subject.model, instance_type, tensor_parallel, replace)
    with context.client() as client:
        _place(client, shape)
    return shape


def _conclude(
    subject: _Subject,
    tokens: int,
    points: Sequence[Measured],
    shape: _Shape | None,
    *,
    plot: Path | None,
    output: Format,
) -> None:
    """Size and tell; then keep and draw it, if that was asked for: what was measured must not be lost by a refusal."""
    document = {"input_tokens_mean": float(tokens), "curve": [point.document() for point in points]}
    document |= {"slo": subject.goals} if subject.goals else {}
    sizing, refused = _sizing(document)
    _tell(points, sizing, document, output)
    if shape is not None and refused is None:
        saved = _save(document, shape)
        errors.print(f"kept as performance profile {saved['id']}", highlight=False)
    if plot is not None:
        _draw(plot, points, subject, sizing)
    if refused is not None:
        if shape is not None:
            raise refused
        errors.print(f"no size: {refused}", style="yellow", highlight=False, markup=False)


def _concurrencies(text: str) -> list[int]:
    """Raises UsageError."""
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1 or found[-1] > _CONCURRENCY_MAX or len(found) > _POINTS_MAX:
        raise UsageError(
            f"--concurrency {text[:60]!r}: give up to {_POINTS_MAX} whole numbers from 1 to {_CONCURRENCY_MAX}, "
            "such as 1,2,4,8"
        )
    return found


def _of_deployment(name: str, goals: dict[str, float], work: _Work) -> _Subject:
    """Raises UsageError if its number of replicas may change meanwhile."""
    login = context.login_find()
    with Client(login.api_url, login.api_key) as client:
        document = client.get(f"deployments/{name}")
    bounds, ready = document["autoscaling"], document["replicas"]["ready"]
    if bounds["min_replicas"] != bounds["max_replicas"] or ready != bounds["min_replicas"]:
        raise UsageError(
            f"{name} has {counted(ready, 'ready replica')} and scales from {bounds['min_replicas']} to "
            f"{bounds['max_replicas']}: set both to the same, and wait until they are ready"
        )
    known = {key: value for key, value in (document.get("slo") or {}).items() if value is not None}
    target = Target(
        url=endpoint(login.inference_url),
        api_key=login.api_key,
        model=name,
        options=_IN_FULL,
        input_words=work.input_words,
        max_tokens=work.max_tokens,
    )
    return _Subject(
        target=target, replicas=ready, name=name, model=document["model"], goals={**known, **goals}
    )


def _of_engine(engine: _Engine, goals: dict[str, float], work: _Work) -> _Subject:
    """Raises UsageError."""
    if engine.served_model is None:
        raise UsageError("--engine-url wants --served-model NAME: see its /v1/models")
    target = Target(
        url=endpoint(engine.url),
        api_key=engine.key,
        model=engine.served_model,
        options=_IN_FULL,
        input_words=work.input_words,
        max_tokens=work.max_tokens,
    )
    return _Subject(target=target, replicas=1, name=engine.served_model, model=engine.model, goals=goals)


#: Answers of the length that was asked for: without that, what is measured depends on what is said.
_IN_FULL: dict[str, Any] = {"ignore_eos": True}


async def _measure(
    subject: _Subject, wanted: Sequence[int], stretch_s: float, seed: int
) -> tuple[int, list[Measured]]:
    tokens = await input_tokens(subject.target, seed)
    points: list[Measured] = []
    for number, concurrency in enumerate(wanted):
        errors.print(f"{concurrency} side by side …", style="dim", highlight=False)
        points.append(
            await measure(
                subject.target,
                concurrency=concurrency,
                replicas=subject.replicas,
                stretch_s=stretch_s,
                seed=seed + 1 + number,
            )
        )
    return tokens, points


def _sizing(document: dict[str, Any]) -> tuple[dict[str, Any] | None, MeridianError | None]:
    """What the control plane reads from the curve; or why not: none can be asked, or no goal is kept."""
    try:
        with context.client() as client:
            return client.request("POST", "performance-profiles/sizing", body=document)[0], None
    except (ApiError, Unreachable) as error:
        return None, error


def _place(client: Client, shape: _Shape) -> tuple[str, str | None]:
    """The instance type's id, and that of the profile to be replaced.

    Raises NotFound; UsageError where something was measured there before and is not to be replaced.
    """
    model, instance_type = shape.model, shape.instance_type
    types = {item["name"]: item["id"] for item in client.items("instance-types")}
    if instance_type not in types:
        known = ", ".join(sorted(types)[:12])
        raise NotFound(f"--instance-type {instance_type[:60]!r} is not known; one of: {known}")
    for held in client.items("performance-profiles", model=model.partition("@")[0]):
        found = (f"{held['model']}@{held['version']}", held["instance_type"], held["tensor_parallel"])
        if found == (model, instance_type, shape.tensor_parallel):
            if not shape.replace:
                raise UsageError(f"{model} was measured on {instance_type} before; to forget that: --replace")
            return types[instance_type], held["id"]
    return types[instance_type], None


def _save(document: dict[str, Any], shape: _Shape) -> dict[str, Any]:
    """Raises NotFound, UsageError, ApiError."""
    with context.client() as client:
        type_id, held = _place(client, shape)
        if held is not None:
            client.request("DELETE", f"performance-profiles/{held}")
        body = {
            **document,
            "model": shape.model,
            "instance_type": type_id,
            "tensor_parallel": shape.tensor_parallel,
        }
        return client.request("POST", "performance-profiles", body=body)[0]


def _draw(path: Path, points: Sequence[Measured], subject: _Subject, sizing: dict[str, Any] | None) -> None:
    picture = curve_svg(
        points,
        title=f"{subject.name}: one replica at rising concurrency",
        size=sizing["concurrency"] if sizing else None,
        ttft_goal_s=subject.goals.get("ttft_s_p95"),
        gap_goal_s=subject.goals.get("inter_token_latency_s_p95"),
    )
    try:
        path.write_text(picture)
    except OSError as error:
        raise _not_drawn(path, error) from error


def _tell(
    points: Sequence[Measured], sizing: dict[str, Any] | None, document: dict[str, Any], output: Format
) -> None:
    if output is not Format.TABLE:
        print_document({**document, "sizing": sizing}, output)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("side by side", "req/s", "tok/s", "TTFT p50", "p95", "ITL p50", "p95"):
        table.add_column(column, justify="right")
    for point in points:
        times = (point.ttft_s_p50, point.ttft_s_p95, point.inter_token_latency_s_p50,
                 point.inter_token_latency_s_p95)  # fmt: skip
        rates = (f"{point.requests_per_s:.2f}", f"{point.tokens_per_s:.1f}")
        table.add_row(str(point.concurrency), *rates, *(f"{value * 1000:.1f} ms" for value in times))
    console.print(table)
    if sizing is None:
        return
    console.print(
        f"take {sizing['concurrency']} side by side: concurrency_target {sizing['concurrency']}, "
        f"max_num_seqs {sizing['max_num_seqs']}, max_num_batched_tokens {sizing['max_num_batched_tokens']}",
        highlight=False,
    )
    for reason in sizing["reasons"]:
        console.print(f"  {reason}", highlight=False, style="dim")
