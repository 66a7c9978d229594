"""The written record of an incident, in Markdown, made from its rows. Pure: facts in, text out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.costing import usd_printed
from workloadplane.words import counted


@dataclass(frozen=True, kw_only=True)
class EntryFacts:
    """One line of the time line."""

    at: datetime
    severity: str
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class MoveFacts:
    """Replicas that a plan moved. Empty pools: they started, or stopped."""

    at: datetime
    plan_generation: int
    deployment: str
    from_pool: str
    to_pool: str
    replicas: int

    def __str__(self) -> str:
        if not self.from_pool:
            went = f"start on {self.to_pool}"
        elif not self.to_pool:
            went = f"stop on {self.from_pool}"
        else:
            went = f"move from {self.from_pool} to {self.to_pool}"
        return f"{self.replicas} of {self.deployment} {went}"


@dataclass(frozen=True, kw_only=True)
class CostFacts:
    """What a deployment cost more."""

    deployment: str
    micro_usd_per_h_before: int
    micro_usd_per_h: int
    extra_micro_usd: int


@dataclass(frozen=True, kw_only=True)
class RecordFacts:
    """All that a record tells. ``others``: deployments that the reader may not know by name."""

    title: str
    severity: str
    cause: str
    evidence: str
    last_heard_at: datetime | None
    evidence_at: datetime
    opened_at: datetime
    resolved_at: datetime | None
    parent: str | None
    drill: str | None
    members: Sequence[str]
    entries: Sequence[EntryFacts]
    moves: Sequence[MoveFacts]
    costs: Sequence[CostFacts]
    others: int = 0


def detected_after_s(last_heard_at: datetime | None, evidence_at: datetime) -> float | None:
    """From the last sign of life until what observers saw was enough; None where there is no such sign."""
    return None if last_heard_at is None else max(0.0, (evidence_at - last_heard_at).total_seconds())


def record_markdown(facts: RecordFacts) -> str:
    """The whole record."""
    parts = [
        f"# Incident: {facts.title}",
        _summary(facts),
        "## Detection",
        _detection(facts),
        "## Time line",
        "\n".join(
            f"- {row.at:%H:%M:%S} UTC, {row.severity}, **{row.reason}**: {_plain(row.message)}"
            for row in facts.entries
        )
        or "Nothing was recorded.",
        "## What moved",
        "\n".join(f"- {row.at:%H:%M:%S} UTC, plan {row.plan_generation}: {row}" for row in facts.moves)
        or "Nothing moved.",
        "## What it cost",
        _cost(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(facts: RecordFacts) -> str:
    began = f"{facts.opened_at:%Y-%m-%d %H:%M:%S} UTC"
    if facts.resolved_at is None:
        lasted = f"It was opened at {began}, and is not resolved."
    else:
        took = _duration((facts.resolved_at - facts.opened_at).total_seconds())
        lasted = f"It was opened at {began} and resolved at {facts.resolved_at:%H:%M:%S} UTC, after {took}."
    touched = len(facts.costs) + facts.others
    lines = [
        f"Severity {facts.severity}, cause `{facts.cause}`. {lasted}",
        f"What failed: {', '.join(facts.members)}." if facts.members else "",
        f"It touched {counted(touched, 'deployment')}"
        + (f", {facts.others} of them of other projects." if facts.others else "."),
        f"It was brought about by drill {facts.drill}." if facts.drill else "",
        f"It was part of {facts.parent}, whose record tells what moved and what it cost."
        if facts.parent
        else "",
    ]
    return "\n\n".join(line for line in lines if line)


def _detection(facts: RecordFacts) -> str:
    first = facts.entries[0].message if facts.entries else facts.evidence
    detected_s = detected_after_s(facts.last_heard_at, facts.evidence_at)
    if facts.last_heard_at is None or detected_s is None:
        return f"What was seen was enough at {facts.evidence_at:%H:%M:%S} UTC. First entry: {_plain(first)}"
    opened_s = (facts.opened_at - facts.last_heard_at).total_seconds()
    return (
        f"Last heard at {facts.last_heard_at:%H:%M:%S} UTC. What was seen was enough after {detected_s:.1f} s;"
        f" the incident was open after {opened_s:.1f} s. First entry: {_plain(first)}"
    )


def _cost(facts: RecordFacts) -> str:
    if not facts.costs:
        return "Nothing that is known."
    lines = [
        f"- {row.deployment}: {usd_printed(row.extra_micro_usd)} USD more"
        f" ({usd_printed(row.micro_usd_per_h_before)} USD/h before,"
        f" {usd_printed(row.micro_usd_per_h)} USD/h at the end)"
        for row in facts.costs
    ]
    total = usd_printed(sum(row.extra_micro_usd for row in facts.costs))
    return "\n".join([f"{total} USD more than by the plan before it, in all:", "", *lines])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _plain(text: str) -> str:
    return " ".join(text.split())
