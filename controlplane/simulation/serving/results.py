"""Results as files: the same bytes for the same world, code and seed."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import msgspec

from controlplane.simulation.serving.outcome import Outcome, Rented
from controlplane.simulation.serving.playing import RUNS
from controlplane.simulation.serving.pools import PROCUREMENTS
from controlplane.simulation.serving.world import ServingWorld, Survey

#: Figures of an outcome in the order in which they are shown, with their titles and units.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("policy", "policy"),
    ("mode", "mode"),
    ("procurement", "procurement"),
    ("within_slo", "within SLO"),
    ("usd", "cost, USD"),
    ("replica_hours", "replica-hours"),
    ("launches", "launches"),
    ("failed_launches", "failed launches"),
    ("not_served", "not served"),
    ("resumed", "resumed"),
    ("lost_replicas", "replicas lost"),
    ("waited_s_p99", "waited p99, s"),
    ("ttft_s_p50", "TTFT p50, s"),
    ("ttft_s_p90", "TTFT p90, s"),
    ("ttft_s_p99", "TTFT p99, s"),
)
#: Figures by region, and of all regions together, likewise.
REGION_COLUMNS: tuple[tuple[str, str], ...] = (
    ("requests", "requests"),
    ("within_slo", "within SLO"),
    ("within_slo_outside", "outside of losses"),
    ("within_slo_during", "during losses"),
    ("spilled", "served elsewhere"),
    ("not_served", "not served"),
    ("usd", "cost, USD"),
    ("replica_hours", "replica-hours"),
    ("launches", "launches"),
    ("lost_replicas", "replicas lost"),
    ("ttft_s_p50", "TTFT p50, s"),
    ("ttft_s_p90", "TTFT p90, s"),
    ("ttft_s_p99", "TTFT p99, s"),
)
#: Figures of what was rented of one kind, likewise.
RENTED_COLUMNS: tuple[tuple[str, str], ...] = (
    ("replica_hours", "replica-hours"),
    ("usd", "cost, USD"),
    ("launches", "launches"),
    ("failed_launches", "failed launches"),
    ("lost", "replicas lost"),
)


class _Stored(msgspec.Struct):
    """What a later run needs of a results file."""

    digest: str
    policies: list[Outcome]


def as_json(world: ServingWorld, seen: Survey, outcomes: Sequence[Outcome], digest: str) -> str:
    """The whole: what was played, and every figure."""
    document: dict[str, Any] = {
        "world": world.name,
        "digest": digest,
        "seed": world.seed,
        "hours": seen.end_s / 3600.0,
        "wait_slo_s": world.wait_slo_s,
        "requests": seen.requests,
        "input_tokens": seen.input_tokens,
        "output_tokens": seen.output_tokens,
        "notes": list(seen.notes),
        "runs": {mode: RUNS[mode] for mode in sorted({outcome.mode for outcome in outcomes})},
        "policies": [msgspec.to_builtins(outcome) for outcome in outcomes],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def summary_csv(outcomes: Sequence[Outcome]) -> str:
    """One row a policy, and one more for each region if there are several; what was rented by kind of procurement."""
    names = [name for name, _ in COLUMNS]
    names += [name for name, _ in REGION_COLUMNS if name not in names]
    by_kind = [(kind, name) for kind in PROCUREMENTS for name, _ in RENTED_COLUMNS]
    rows = []
    for outcome in outcomes:
        rented = [getattr(outcome.rented.get(kind, Rented()), name) for kind, name in by_kind]
        rows.append([outcome.policy, "", *(getattr(outcome, name) for name in names[1:]), *rented])
        for region in outcome.regions:
            figures = (getattr(region, name, None) for name in names[1:])
            rows.append([outcome.policy, region.region, *figures, *(None for _ in by_kind)])
    return _csv(["policy", "region", *names[1:], *(f"{kind}_{name}" for kind, name in by_kind)], rows)


def timeline_csv(outcomes: Sequence[Outcome]) -> str:
    """One row for each moment of each policy, and of each region if there are several."""
    names = ("at_s", "demand", "wanted", "ready", "starting", "waiting")
    rows = [
        [outcome.policy, region, *(_cell(getattr(moment, name)) for name in names)]
        for outcome in outcomes
        for region, moments in (
            ("", outcome.moments),
            *((each.region, each.moments) for each in outcome.regions),
        )
        for moment in moments
    ]
    return _csv(("policy", "region", *names), rows)


def outcomes_in(data: bytes, digest: str) -> dict[str, Outcome]:
    """The outcomes in ``as_json``'s bytes by policy; none where they are of another world, or no results at all."""
    try:
        document = msgspec.json.decode(data, type=_Stored)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return {outcome.policy: outcome for outcome in document.policies} if document.digest == digest else {}


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
