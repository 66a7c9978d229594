"""The rows of the speed table: what is measured of each candidate, round by round.

A row starts its upstream and all candidates, then measures them in turn, round after round, so that whatever
else the machine does touches all alike; a figure is the median of its rounds.
"""

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.gateway.candidates import (
    CACHE_AWARE,
    MERIDIAN,
    PEERS,
    Candidate,
    Cores,
    candidate,
    running,
    spawn,
    told,
)
from tests.benchmarks.goals import Figures, Goal, Row

DIRECT = "upstream alone"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    cores: Cores
    runs: int
    seconds: float
    idle_connections: int
    with_peers: bool = True


Measure = Callable[[Candidate, Plan], Figures]


def measure_row(
    row: Row, mode: Sequence[str], names: Sequence[str], plan: Plan, measure: Measure, *, direct: bool
) -> None:
    """Fill ``row.figures``; one that fails is told in ``row.faults`` and left out from then on."""
    upstream = [sys.executable, "-m", "tests.benchmarks.gateway.upstream", *mode]
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(
            running(spawn(upstream, plan.cores.others, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        )
        assert engine.stdout is not None
        ports = told(engine.stdout.fileno(), lambda line: "ports" in line)["ports"]
        assert isinstance(ports, list)
        measured: list[Candidate] = []
        for name in names:
            try:
                measured.append(stack.enter_context(candidate(name, ports, plan.cores.gateway)))
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                row.faults.append(f"{name}: {error}")
        if direct and measured:
            measured.append(Candidate(DIRECT, ports[0], "none", measured[0].process))
        rounds: dict[str, list[Figures]] = {each.name: [] for each in measured}
        for _ in range(plan.runs):
            for each in list(measured):
                try:
                    rounds[each.name].append(measure(each, plan))
                except (OSError, RuntimeError, ValueError) as error:
                    row.faults.append(f"{each.name}: {str(error)[:300]}")
                    measured.remove(each)
    for name, figures in rounds.items():
        if figures:
            row.figures[name] = {key: statistics.median(each[key] for each in figures) for key in figures[0]}


def _load(made: Candidate, plan: Plan, *arguments: object) -> subprocess.Popen[bytes]:
    return spawn(
        [sys.executable, "-m", "tests.benchmarks.gateway.load", *map(str, arguments),
         "--port", str(made.port), "--key", made.key],
        plan.cores.others, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _result(process: subprocess.Popen[bytes], *, peek: Callable[[], None] | None = None) -> dict[str, Any]:
    """What the load said at its end; ``peek`` is called when it pauses. Raises RuntimeError if it failed."""
    with running(process):
        assert process.stdin and process.stdout and process.stderr
        line = process.stdout.readline()
        if line.strip() == b"{}" and peek is not None:
            peek()
            process.stdin.write(b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:
            raise RuntimeError(process.stderr.read().decode(errors="replace").strip().splitlines()[-1:])
        result: dict[str, Any] = json.loads(line)
        return result


def _posts(made: Candidate, plan: Plan, *arguments: object) -> Figures:
    before_s = made.cpu_s()
    warmup_s = plan.seconds / 6
    result = _result(_load(made, plan, "posts", "--seconds", plan.seconds, "--warmup", warmup_s, *arguments))
    used_s = (made.cpu_s() - before_s) * plan.seconds / (plan.seconds + warmup_s)
    return {
        "per_s": result["per_s"],
        "cpu_us": used_s / result["requests"] * 1e6 if made.name != DIRECT else 0.0,
        "p50_ms": result["duration"]["p50"],
        "p99_ms": result["duration"]["p99"],
    }


def _fastest(row: Row, key: str, names: Sequence[str] = CACHE_AWARE, *, most: bool = True) -> float | None:
    values = [row.figures[name][key] for name in names if name in row.figures]
    return (max(values) if most else min(values)) if values else None


def _rate_goal(row: Row, text: str, factor: float, names: Sequence[str]) -> None:
    best = _fastest(row, "per_s", names)
    if best is not None and MERIDIAN in row.figures:
        row.goals.append(Goal(text, row.figures[MERIDIAN]["per_s"], factor * best, at_least=True))


def small_posts(plan: Plan) -> Row:
    row = Row("small", "small POSTs (1 KB prompt), 32 connections", ("per_s", "cpu_us", "p50_ms", "p99_ms"))
    measure_row(row, ("--mode", "small"), _all(plan), plan, _posts, direct=True)
    _rate_goal(row, "req/s ≥ 2.5 × the faster cache-aware peer", 2.5, CACHE_AWARE)
    if MERIDIAN in row.figures:
        row.goals.append(Goal("req/s ≥ 20,000", row.figures[MERIDIAN]["per_s"], 20_000, at_least=True))
    return row


def added_latency(plan: Plan) -> Row:
    row = Row("latency", "1 connection: what is added to the upstream's own", ("p50_ms", "p99_ms"))

    def measure(made: Candidate, plan: Plan) -> Figures:
        return _posts(made, plan, "--connections", 1)

    measure_row(row, ("--mode", "small"), _all(plan), plan, measure, direct=True)
    own = row.figures.get(DIRECT, {"p50_ms": 0.0, "p99_ms": 0.0})
    for name, figures in row.figures.items():
        if name != DIRECT:
            row.figures[name] = {key: figures[key] - own[key] for key in row.columns}
    for key, text in (("p50_ms", "added p50 ≤ both peers'"), ("p99_ms", "added p99 ≤ both peers'")):
        best = _fastest(row, key, PEERS, most=False)
        if best is not None and MERIDIAN in row.figures:
            row.goals.append(Goal(text, row.figures[MERIDIAN][key], best))
    return row


def fast_streams(plan: Plan) -> Row:
    row = Row("streams", "256 SSE streams as fast as they come, chunks/s", ("per_s", "p50_ms", "p99_ms"))

    def measure(made: Candidate, plan: Plan) -> Figures:
        result = _result(
            _load(made, plan, "streams", "--connections", 256, "--seconds", plan.seconds, "--warmup", 1)
        )
        return {
            "per_s": result["per_s"],
            "p50_ms": result["delay"]["p50"],
            "p99_ms": result["delay"]["p99"],
        }

    measure_row(row, ("--mode", "fast", "--nice", "5"), _all(plan), plan, measure, direct=True)
    _rate_goal(row, "chunks/s ≥ 1.8 × the faster peer", 1.8, PEERS)
    best = _fastest(row, "p99_ms", PEERS, most=False)
    if best is not None and MERIDIAN in row.figures:
        row.goals.append(
            Goal("p99 chunk delay ≤ 1/5 of the peers'", row.figures[MERIDIAN]["p99_ms"], best / 5)
        )
    return row


def paced_streams(plan: Plan) -> Row:
    row = Row("paced", "1,000 streams × 20 tokens/s", ("per_s", "p50_ms", "p99_ms", "rss_mb"))

    def measure(made: Candidate, plan: Plan) -> Figures:
        seen: list[float] = []
        load = _load(made, plan, "streams", "--connections", 1000, "--seconds", plan.seconds,
                     "--warmup", 2, "--linger")  # fmt: skip
        result = _result(load, peek=lambda: seen.append(made.rss_mb()))
        return {
            "per_s": result["per_s"],
            "p50_ms": result["delay"]["p50"],
            "p99_ms": result["delay"]["p99"],
            "rss_mb": seen[0],
        }

    mode = ("--mode", "paced", "--rate", "20", "--events", "1000000000")
    measure_row(row, mode, _all(plan), plan, measure, direct=True)
    row.figures.get(DIRECT, {}).pop("rss_mb", None)
    if MERIDIAN in row.figures:
        row.goals.append(Goal("p99 chunk delay ≤ 15 ms", row.figures[MERIDIAN]["p99_ms"], 15.0))
        row.goals.append(Goal("RSS ≤ 80 MB", row.figures[MERIDIAN]["rss_mb"], 80.0))
    return row


def idle_connections(plan: Plan) -> Row:
    count = plan.idle_connections
    row = Row(
        "idle", f"{count:,} idle keep-alive connections", ("rss_mb", "before_ms", "after_ms", "after_p99_ms")
    )

    def measure(made: Candidate, plan: Plan) -> Figures:
        seen: list[float] = []
        load = _load(made, plan, "idle", "--connections", count, "--seconds", plan.seconds / 3)
        result = _result(load, peek=lambda: seen.append(made.rss_mb()))
        return {
            "rss_mb": seen[0],
            "before_ms": result["before"]["p50"],
            "after_ms": result["after"]["p50"],
            "after_p99_ms": result["after"]["p99"],
        }

    measure_row(row, ("--mode", "small"), _all(plan), plan, measure, direct=False)
    if MERIDIAN in row.figures:
        figures = row.figures[MERIDIAN]
        row.goals.append(Goal("RSS ≤ 150 MB", figures["rss_mb"], 150.0))
        text = "p50 with them ≤ 1.1 × p50 before them"
        row.goals.append(Goal(text, figures["after_ms"], 1.1 * figures["before_ms"]))
    return row


def large_prompts(plan: Plan) -> Row:
    row = Row("large", "100 KB prompts, 32 connections", ("per_s", "cpu_us", "p50_ms", "p99_ms"))

    def measure(made: Candidate, plan: Plan) -> Figures:
        return _posts(made, plan, "--prompt-bytes", 100 * 1024, "--prompts", 32)

    measure_row(row, ("--mode", "small"), _all(plan), plan, measure, direct=True)
    _rate_goal(row, "req/s ≥ the faster peer", 1.0, CACHE_AWARE)
    return row


def picker(plan: Plan) -> Row:
    """The choice alone, as ``bench_picker`` measures it, on the gateway's core."""
    row = Row("picker", "picker alone, 500 replicas × 8k-token prompt", ("median_us",))
    command = [sys.executable, "-m", "tests.benchmarks.bench_picker"]
    with running(spawn(command, plan.cores.gateway, stdout=subprocess.PIPE)) as process:
        assert process.stdout is not None
        for line in process.stdout.read().decode().splitlines():
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) > 2 and cells[1] == "hash, match and choose":
                row.figures[MERIDIAN] = {"median_us": float(cells[2].replace(",", ""))}
    if MERIDIAN in row.figures:
        row.goals.append(Goal("median ≤ 150 µs", row.figures[MERIDIAN]["median_us"], 150.0))
    else:
        row.faults.append("bench_picker told no median")
    return row


def _all(plan: Plan) -> tuple[str, ...]:
    return (MERIDIAN, *PEERS) if plan.with_peers else (MERIDIAN,)


ROWS: dict[str, Callable[[Plan], Row]] = {
    "small": small_posts,
    "latency": added_latency,
    "streams": fast_streams,
    "paced": paced_streams,
    "idle": idle_connections,
    "large": large_prompts,
    "picker": picker,
}
