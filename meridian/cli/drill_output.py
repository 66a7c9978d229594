"""A drill in words and tables: what it would touch, how it goes on, what it has shown."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from meridian.cli.drill_run import DrillRun
from meridian.client import Document
from workloadplane.words import counted

_DONE = {
    "weights": "routing tables keep traffic away, as far as others have room",
    "faults": "processes of the system on this machine are broken",
}
_LATELY = 40


def blast_said(preview: Document, what: Document, fault_s: float) -> Iterator[str]:
    """Said before anything is touched."""
    blast, promise = preview["blast"], preview["promise"]
    place = f"{what['kind']} {what['target']}".strip()
    yield f"{place} for {fault_s:.0f} s: {_DONE[what['method']]}"
    for one in blast["deployments"]:
        yield (
            f"  {one['deployment']}: {one['replicas_there']} of {counted(one['replicas'], 'replica')} there,"
            f" {100 * one['traffic_share']:.0f} % of its traffic; it {_verdict(one['verdict'])}"
        )
    if blast["others"]:
        yield f"  and {counted(blast['others'], 'deployment')} of other projects"
    recovery = "unknown" if promise["recovery_s"] is None else f"{promise['recovery_s']:.0f} s"
    said = {
        "certificate": f"plan {preview['plan_generation']} certifies {100 * promise['served_share']:.0f} % of the"
        f" demand served, {100 * promise['margin_share']:+.0f} % to spare, replacement in {recovery}",
        "static_stability": "nothing is lost by it, so no request may fail",
    }
    yield f"  promise for {what['deployment']}: {said[promise['basis']]}"
    for refusal in preview["refusals"]:
        yield f"  refused without --accept-risk: {refusal['subject']} {refusal['value']}"


def _verdict(verdict: str) -> str:
    return {"survives": "survives that", "degraded": "falls short", "lost": "is lost"}[verdict]


def phase_said(run: DrillRun) -> str:
    """A line for each phase, where nobody watches a terminal."""
    said = {
        "before": "measuring as it is",
        "during": "the fault has begun",
        "after": "all is put back; measuring its return",
    }
    return f"{run.elapsed_s:6.1f} s  {said[run.phase]}"


def live_table(run: DrillRun) -> Table:
    """What is seen now."""
    seen = run.probes.seen[:]
    lately = seen[-_LATELY:]
    served: dict[str, int] = {}
    for one in lately:
        if one.region:
            served[one.region] = served.get(one.region, 0) + 1
    failed = sum(one.outcome in ("failed", "broken") for one in seen)
    again = sum(one.outcome == "again" for one in seen)
    ttft = sorted(one.ttft_s for one in lately if one.ttft_s is not None)
    states = run.watch.states
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row(phase_said(run), f"{counted(len(seen), 'request')}, {again} asked again, {failed} failed")
    table.add_row(
        "  "
        + ", ".join(f"{name} {count}" for name, count in sorted(served.items(), key=lambda each: -each[1])),
        f"first token after {1000 * ttft[len(ttft) // 2]:.0f} ms" if ttft else "",
    )
    if states:
        table.add_row(
            "  " + ", ".join(f"{name} is {state}" for name, state in states.items()), "Ctrl-C ends it"
        )
    return table


def report_table(drill: Document) -> Table:
    """Phase by phase."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in ("before", "during", "after"):
        table.add_column(name, justify="right")
    phases = {phase["phase"]: phase for phase in drill["report"]["phases"]}
    order = [phases[name] for name in ("before", "during", "after")]
    table.add_row("requests", *(str(phase["requests"]) for phase in order))
    table.add_row("failed at first", *(str(phase["failed_first"]) for phase in order))
    table.add_row("failed, asked again", *(str(phase["failed"]) for phase in order))
    table.add_row("broke off", *(str(phase["broken"]) for phase in order))
    table.add_row("first token, P50", *(_ms(phase["ttft_s_p50"]) for phase in order))
    table.add_row("first token, P99", *(_ms(phase["ttft_s_p99"]) for phase in order))
    names = {share["region"] for phase in order for share in phase["regions"]}
    for name in sorted(names):
        table.add_row(f"served by {name}", *(_share_of(phase, name) for phase in order))
    return table


def verdict_said(drill: Document) -> str:
    """How it ended, in a sentence."""
    place = f"{drill['kind']} {drill['target']}".strip()
    match drill["state"]:
        case "passed" | "differs":
            return f"{place}: {_measured(drill)} {_against(drill)}"
        case "aborted":
            return f"{place} was aborted: {drill['because']}; all is put back"
        case state:
            return f"{place} is under way ({state}); `meridian drill abort {drill['id']}` ends it"


def _measured(drill: Document) -> str:
    report = drill["report"]
    detected, moved = report["detected_s"], report["moved_s"]
    said = [
        *([] if detected is None else [f"ejected after {detected:.1f} s"]),
        f"last new request that failed at first after {report['last_failed_s']:.1f} s"
        if report["last_failed_s"]
        else "no new request failed",
        f"{100 * report['served_share']:.1f} % answered in {report['fault_s']:.0f} s",
    ]
    if drill["kind"] in ("lose-region", "lose-provider"):
        there = "none" if moved is None else f"the last one began after {moved:.1f} s"
        said += [f"served there: {there}", f"idle rent ${report['cost_usd']}"]
    return ", ".join(said) + "."


def _against(drill: Document) -> str:
    differences: list[Any] = drill["report"]["differences"]
    if not differences:
        return f"As promised by plan {drill['plan_generation']}."
    said = "; ".join(f"{one['promised']}, but {one['measured']}" for one in differences)
    return f"It differs from what plan {drill['plan_generation']} promised: {said}."


def _ms(value_s: float | None) -> str:
    return "–" if value_s is None else f"{1000 * value_s:.0f} ms"


def _share_of(phase: Document, region: str) -> str:
    share = next((one["share"] for one in phase["regions"] if one["region"] == region), 0.0)
    return f"{100 * share:.0f} %"
