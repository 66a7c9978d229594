"""``meridian top``: what the gateways do just now."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import httpx
import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from meridian.cli import context, gateways
from meridian.cli.output import Format, FormatOption, console, print_document
from meridian.errors import Unreachable
from meridian.top import Reading, Row, by_load, rows_between

_TIMEOUT_S = 3.0

Readings = dict[str, Reading | str]


def top(
    gateway: gateways.GatewayOption = None,
    interval_s: Annotated[float, typer.Option("--interval", min=0.2, help="Seconds between readings.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one reading and end.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Watch requests, latencies and tokens of every deployment in every region."""
    with context.client() as client:
        asked = gateways.known(client, gateway)
        names = gateways.deployment_names(client)
    with ThreadPoolExecutor(max_workers=16) as readers, httpx.Client(timeout=_TIMEOUT_S) as http:

        def read() -> Readings:
            return dict(zip(asked, readers.map(partial(_read_one, http), asked.values()), strict=True))

        before = read()
        if all(isinstance(reading, str) for reading in before.values()):
            raise Unreachable(f"no gateway tells its metrics: {next(iter(before.values()))}")
        if once or output is not Format.TABLE:
            time.sleep(interval_s)
            after = read()
            if output is Format.TABLE:
                console.print(_screen(before, after, names))
            else:
                print_document(_document(before, after, names), output)
            return
        _watch(read, names, before, interval_s)


def _watch(
    read: Callable[[], Readings], names: Mapping[str, str], before: Readings, interval_s: float
) -> None:
    """Until ^C, which is how one leaves."""
    try:
        with Live(Text("reading …"), console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                time.sleep(interval_s)
                after = read()
                live.update(_screen(before, after, names), refresh=True)
                before = after
    except KeyboardInterrupt:
        return


def _read_one(http: httpx.Client, url: str) -> Reading | str:
    """A gateway's metrics, or why not."""
    try:
        answer = http.get(f"{url}/metrics")
    except httpx.HTTPError as error:
        return f"{url} does not answer ({error})"
    if answer.status_code == 404:
        return f"{url} shows /metrics to its operators' networks only; run this from one of them"
    try:
        answer.raise_for_status()
        return Reading.of(answer.text, time.monotonic())
    except (httpx.HTTPStatusError, ValueError) as error:
        return f"{url}/metrics cannot be used ({error})"


def _rows(before: Readings, after: Readings) -> list[Row]:
    rows: list[Row] = []
    for cluster, reading in after.items():
        earlier = before.get(cluster)
        if isinstance(reading, Reading) and isinstance(earlier, Reading):
            rows += rows_between(cluster, earlier, reading)
    return by_load(rows)


def _document(before: Readings, after: Readings, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "deployments": [
            {**asdict(row), "deployment": names.get(row.deployment_id)} for row in _rows(before, after)
        ],
        "unread": {cluster: reading for cluster, reading in after.items() if isinstance(reading, str)},
    }


def _screen(before: Readings, after: Readings, names: Mapping[str, str]) -> Group:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("deployment")
    table.add_column("cluster")
    for column in ("req/s", "err/s", "TTFT p50", "p99", "ITL p50", "p99", "tok in/s", "out/s", "cached"):
        table.add_column(column, justify="right")
    for column in ("running", "waiting"):
        table.add_column(column, justify="right")
    for row in _rows(before, after):
        table.add_row(
            names.get(row.deployment_id, row.deployment_id[:8]),
            row.gateway,
            f"{row.requests_per_s:.1f}",
            Text(f"{row.errors_per_s:.1f}", style="red" if row.errors_per_s else ""),
            _duration(row.ttft_s_p50),
            _duration(row.ttft_s_p99),
            _duration(row.inter_token_latency_s_p50),
            _duration(row.inter_token_latency_s_p99),
            f"{row.input_tokens_per_s:.0f}",
            f"{row.output_tokens_per_s:.0f}",
            "–" if row.cached_share is None else f"{row.cached_share:.0%}",
            str(row.in_flight),
            Text(str(row.waiting), style="yellow" if row.waiting else ""),
        )
    notes = [Text(reading, style="red") for reading in after.values() if isinstance(reading, str)]
    return (
        Group(table, *notes)
        if table.row_count
        else Group(Text("no deployment has had a request yet"), *notes)
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
