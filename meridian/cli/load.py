"""``meridian load``: ask a deployment as many clients would, and tell what they saw."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from meridian.arrivals import Course, Profile, Recorded
from meridian.cli import context
from meridian.cli.output import Format, FormatOption, console, errors, print_document
from meridian.cli.traces import recorded
from meridian.client import Client
from meridian.errors import ExitCode, MeridianError, Unreachable, UsageError
from meridian.load import Load, Tally, Target, quantile
from workloadplane.words import counted

#: As many are remembered exactly; a longer run would fill this machine's memory.
REQUESTS_MAX = 5_000_000
_LOOK_EVERY_S = 2.0
#: What a trace says itself.
_RECORDED = ("rate", "duration_s", "profile", "low", "period_s", "input_words", "max_tokens")
_QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


@dataclass(slots=True)
class ReplicaCounts:
    """How many replicas there were, as (seconds after the begin, ready, desired) at each change."""

    seen: list[tuple[float, int, int]] = field(default_factory=list)

    def note(self, at_s: float, ready: int, desired: int) -> None:
        if not self.seen or self.seen[-1][1:] != (ready, desired):
            self.seen.append((round(at_s, 1), ready, desired))

    @property
    def ready(self) -> list[int]:
        """The counts of ready replicas one after another, no two alike side by side."""
        found: list[int] = []
        for _, ready, _ in self.seen:
            if not found or found[-1] != ready:
                found.append(ready)
        return found


def load(
    given: typer.Context,
    *,
    deployment: Annotated[str, typer.Option(help="The deployment's name.")],
    rate: Annotated[
        float, typer.Option(min=0.01, max=10_000, help="Requests a second, at the highest.")
    ] = 5.0,
    duration_s: Annotated[
        float, typer.Option("--duration", min=1, max=86_400, help="For so many seconds.")
    ] = 60.0,
    profile: Annotated[
        Profile, typer.Option(help="steady; burst, wave: low and high in turn; ramp, steps: up.")
    ] = Profile.STEADY,
    low: Annotated[float, typer.Option(min=0, max=10_000, help="Requests a second, at the lowest.")] = 0.0,
    period_s: Annotated[
        float | None, typer.Option("--period", min=1, help="Of burst and wave. Default: half the duration.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Ask what a trace tells (.csv, .jsonl, .gz), as large and when it was asked, in place of these."
        ),
    ] = None,
    input_words: Annotated[int, typer.Option(min=1, max=100_000, help="Of each prompt.")] = 32,
    max_tokens: Annotated[int, typer.Option(min=1, max=1_000_000, help="Of each answer.")] = 64,
    stream: Annotated[
        bool, typer.Option(help="Ask for streams: without them no first token is seen.")
    ] = True,
    in_flight_max: Annotated[
        int, typer.Option("--in-flight", min=1, max=4096, help="At once, at most; what is due beyond waits.")
    ] = 512,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, max=3600, help="Without a byte, until a request fails.")
    ] = 300.0,
    seed: Annotated[int, typer.Option(help="The same seed asks the same at the same moments.")] = 0,
    url: Annotated[
        str | None, typer.Option(help="Another endpoint than the one that is logged in to, without a path.")
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Put load on a deployment and tell what its clients see; ^C ends it with the report.

    Ends with 1 if a request failed.
    """
    course = _course(profile, rate, low, duration_s, period_s) if trace is None else _recorded(given, trace)
    login = context.login_find()
    target = Target(
        url=endpoint(url or login.inference_url),
        api_key=login.api_key,
        model=deployment,
        input_words=input_words,
        max_tokens=max_tokens,
        stream=stream,
        timeout_s=timeout_s,
        options={} if trace is None else {"ignore_eos": True},
    )
    run = Load(course=course, target=target, in_flight_max=in_flight_max, seed=seed)
    _tell(run, _driven(run, login, is_own=url is None), output)
    if run.tally.failed:
        raise typer.Exit(ExitCode.FAILED)


def _course(profile: Profile, rate: float, low: float, duration_s: float, period_s: float | None) -> Course:
    """Raises UsageError."""
    if low > rate:
        raise UsageError(f"--low {low:g} is above --rate {rate:g}; give at most the rate")
    if rate * duration_s > REQUESTS_MAX:
        raise UsageError(
            f"--rate {rate:g} for {duration_s:g} s is {counted(rate * duration_s, 'request', ',.0f')}; "
            f"lower one of them: {REQUESTS_MAX:,} at most"
        )
    return Course(
        profile=profile,
        rate_per_s=rate,
        low_per_s=low,
        duration_s=duration_s,
        period_s=period_s or duration_s / 2,
    )


def _recorded(given: typer.Context, trace: Path) -> Recorded:
    """Raises UsageError."""
    _nothing_else(given)
    return recorded(trace, requests_max=REQUESTS_MAX)


def _driven(run: Load, login: context.Login, *, is_own: bool) -> ReplicaCounts:
    """Run it to its end; how many replicas there were, where the endpoint is that of the login."""
    counts = ReplicaCounts()
    with Client(login.api_url, login.api_key) as client:
        if is_own:
            with contextlib.suppress(Unreachable):  # what serves goes on serving without a control plane
                client.get(f"deployments/{run.target.model}")
        asyncio.run(_drive(run, counts, client if is_own else None))
    return counts


def _nothing_else(given: typer.Context) -> None:
    """Raises UsageError for an option that a trace stands in for."""
    for name in _RECORDED:
        source = given.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            shown = {"duration_s": "duration", "period_s": "period"}.get(name, name).replace("_", "-")
            raise UsageError(f"--trace says when and how much is asked; leave --{shown} away")


def endpoint(url: str | None) -> str:
    """An address to ask, without a path. Raises UsageError."""
    if not url:
        raise UsageError("no endpoint is known; give --url, or set MERIDIAN_INFERENCE_URL")
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url {url[:80]!r} is not an address; give one like http://127.0.0.1:8880")
    return url.rstrip("/").removesuffix("/v1")


async def _drive(run: Load, counts: ReplicaCounts, client: Client | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    watching = asyncio.create_task(_watch(run, counts, client))
    try:
        await run.run(stop)
        await _look(run, counts, client)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(run: Load, counts: ReplicaCounts, client: Client | None) -> None:
    """Look at the replicas, and show a line where somebody watches."""
    looked_s = -_LOOK_EVERY_S
    shown = Live(console=errors, auto_refresh=False, transient=True) if errors.is_terminal else None
    with shown or contextlib.nullcontext():
        while True:
            now_s = time.monotonic()
            if now_s - looked_s >= _LOOK_EVERY_S:
                looked_s = now_s
                await _look(run, counts, client)
            if shown is not None:
                shown.update(_line(run, counts), refresh=True)
            await asyncio.sleep(0.5)


async def _look(run: Load, counts: ReplicaCounts, client: Client | None) -> None:
    if client is None:
        return
    with contextlib.suppress(MeridianError, TypeError):
        found = (await asyncio.to_thread(client.get, f"deployments/{run.target.model}"))["replicas"]
        counts.note(time.monotonic() - run.began_s, int(found["ready"]), int(found["desired"]))


def _line(run: Load, counts: ReplicaCounts) -> Text:
    now_s = time.monotonic()
    at_s = min(now_s - run.began_s, run.course.duration_s)
    parts = [
        f"{at_s:.0f} of {run.course.duration_s:.0f} s",
        f"{run.course.rate_at(at_s):.1f} requests/s",
        f"{run.in_flight} in flight",
        f"{run.tally.answered} answered",
        f"{run.tally.failed} failed",
        f"first token {_duration(run.tally.recent_ttft_s(now_s))}",
    ]
    if run.behind_s > 1.0:
        parts.insert(3, f"{run.behind_s:.0f} s behind: all {run.in_flight_max} are in flight")
    if counts.seen:
        parts.append(f"{counts.seen[-1][1]} of {counted(counts.seen[-1][2], 'replica')}")
    return Text(" · ".join(parts))


def _tell(run: Load, counts: ReplicaCounts, output: Format) -> None:
    if output is not Format.TABLE:
        print_document(_document(run, counts), output)
        return
    tally, span_s = run.tally, max(run.ended_s - run.began_s, 1e-9)
    console.print(
        f"{counted(run.sent, 'request', ',')} in {span_s:.1f} s: {tally.answered:,} answered, {tally.failed:,} failed"
        + (f", {run.abandoned:,} let go" if run.abandoned else ""),
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", *(name.upper() for name, _ in _QUANTILES)):
        table.add_column(column, justify="left" if not column else "right")
    for name, values in _measured(tally):
        if values:
            table.add_row(name, *(_duration(quantile(values, share)) for _, share in _QUANTILES))
    console.print(table)
    tokens = f"{tally.output_tokens / span_s:,.1f} out, {tally.input_tokens / span_s:,.1f} in"
    console.print(f"tokens/s  {tokens}", highlight=False)
    for name, told in (
        ("served by", ", ".join(f"{region} {count:,}" for region, count in tally.regions.most_common())),
        ("replicas", " → ".join(map(str, counts.ready))),
    ):
        if told:
            console.print(f"{name}  {told}", highlight=False)
    for kind, count in tally.errors.most_common():
        console.print(
            f"{count:,} × {kind}: {tally.reasons[kind]}", style="red", highlight=False, markup=False
        )


def _measured(tally: Tally) -> Sequence[tuple[str, Sequence[float]]]:
    return (
        ("first token", tally.ttft_s),
        ("between tokens", tally.gap_s),
        ("end to end", tally.took_s),
    )


def _document(run: Load, counts: ReplicaCounts) -> dict[str, Any]:
    tally, span_s = run.tally, max(run.ended_s - run.began_s, 1e-9)

    def quantiles(values: Sequence[float]) -> dict[str, float | None]:
        return {name: quantile(values, share) for name, share in _QUANTILES}

    return {
        "deployment": run.target.model,
        "profile": run.course.profile.value if isinstance(run.course, Course) else "trace",
        "rate_per_s": run.course.rate_per_s,
        "span_s": span_s,
        "requests": run.sent,
        "answered": tally.answered,
        "failed": tally.failed,
        "abandoned": run.abandoned,
        "ttft_s": quantiles(tally.ttft_s),
        "inter_token_latency_s": quantiles(tally.gap_s),
        "duration_s": quantiles(tally.took_s),
        "input_tokens_per_s": tally.input_tokens / span_s,
        "output_tokens_per_s": tally.output_tokens / span_s,
        "regions": dict(tally.regions),
        "errors": dict(tally.errors),
        "replicas": [
            {"at_s": at_s, "ready": ready, "desired": desired} for at_s, ready, desired in counts.seen
        ],
    }


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
