"""What changes from one plan to another as the console shows it."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from apps.console import formatting
from apps.console.presenters.certificates import CertificateMatrix, certificate_matrix
from apps.console.presenters.plan_matrix import WishView, wishes
from apps.placements.documents import Asker
from apps.placements.services import Comparison
from controlplane.placement import DeploymentDiff, PlanCost

#: Deployments that are told one by one, the worst news first.
ROWS_SHOWN = 50
WISHES_SHOWN = 20


@dataclass(frozen=True)
class CostPart:
    """A part of what plans are compared by, and by how much it changes."""

    name: str
    said: str


@dataclass(frozen=True)
class ChangeRow:
    """One deployment: its moves and its other news, a line each."""

    name: str
    tone: str
    word: str
    moves: tuple[str, ...]
    news: tuple[str, ...]
    rent_micro_usd_per_h: int
    change_said: str


@dataclass(frozen=True)
class ChangesView:
    """The whole. Money is that of ``sums_of``, all else the project's."""

    sums_of: str
    before_micro_usd_per_h: int
    after_micro_usd_per_h: int
    change_said: str
    parts: tuple[CostPart, ...]
    moved: int
    started: int
    stopped: int
    promises_lost: int
    promises_gained: int
    rows: tuple[ChangeRow, ...]
    left_out: int
    unchanged: int
    wishes: tuple[WishView, ...]
    certificate: CertificateMatrix


def changes_view(comparison: Comparison, asker: Asker) -> ChangesView:
    """A comparison, told of the asker's deployments."""
    diff = comparison.diff(asker.project_id)
    shown = diff.deployments[:ROWS_SHOWN]
    after = comparison.after
    still_there = [row.deployment_id for row in shown if row.deployment_id in after.plan.by_deployment]
    money_before = comparison.before.spending(asker).micro_usd_per_h
    money_after = after.spending(asker).micro_usd_per_h
    return ChangesView(
        sums_of=asker.sums_of,
        before_micro_usd_per_h=money_before,
        after_micro_usd_per_h=money_after,
        change_said=_change_said(money_after - money_before),
        parts=_parts(diff.cost_before, diff.cost_after),
        moved=diff.replicas_moved,
        started=diff.replicas_started,
        stopped=diff.replicas_stopped,
        promises_lost=len(diff.promises_lost),
        promises_gained=len(diff.promises_gained),
        rows=tuple(map(_row, shown)),
        left_out=len(diff.deployments) - len(shown),
        unchanged=diff.unchanged,
        wishes=wishes(after.problem, after.plan, still_there)[:WISHES_SHOWN],
        certificate=certificate_matrix(comparison.certificate(still_there), still_there),
    )


def others_changed(comparison: Comparison, deployment_id: str) -> tuple[str, ...]:
    """What one deployment's dry run would change for others of its project, a line each."""
    project_id = comparison.after.problem.deployment_by_id[deployment_id].project_id
    rows = comparison.diff(project_id).deployments[:ROWS_SHOWN]
    return tuple(str(row) for row in rows if row.deployment_id != deployment_id)


def _row(diff: DeploymentDiff) -> ChangeRow:
    word, tone = _judged(diff)
    before, after = diff.cost_before.rent_micro_usd_per_h, diff.cost_after.rent_micro_usd_per_h
    moves = tuple(map(str, diff.moves))
    return ChangeRow(
        name=diff.deployment,
        word=word,
        tone=tone,
        moves=moves,
        news=tuple(_news(diff))
        or ((diff.costs_said,) if diff.costs_said and not moves and before == after else ()),
        rent_micro_usd_per_h=after,
        change_said=_change_said(after - before),
    )


def _judged(diff: DeploymentDiff) -> tuple[str, str]:
    if diff.refused:
        return "not placed as wanted", "bad"
    if diff.promise_lost:
        return "promise broken", "bad"
    if diff.given_up:
        return "wish given up", "warn"
    if diff.placed or diff.promise_gained or diff.granted:
        return "better kept", "ok"
    return "", ""


def _news(diff: DeploymentDiff) -> Iterable[str]:
    if diff.promise_kept_before is None:
        yield "is new"
    if diff.promise_kept_after is None:
        yield "is gone"
    if diff.placed:
        yield "placed as wanted"
    if diff.handed_over:
        yield diff.handed_over
    if diff.survives_no_more:
        yield f"would no longer survive losing {', '.join(map(str, diff.survives_no_more))}"
    if diff.survives_now:
        yield f"would now survive losing {', '.join(map(str, diff.survives_now))}"
    yield from (f"granted: {refusal.rule.replace('_', ' ')}" for refusal in diff.granted)


def _parts(before: PlanCost, after: PlanCost) -> tuple[CostPart, ...]:
    """The rent first, as ``PlanCost`` has them; those that do not change are left out.

    So are wishes that are not kept: their price is policy, no money, and they are told one by one.
    """
    changes = (
        (part.name.removesuffix("_micro_usd_per_h"), getattr(after, part.name) - getattr(before, part.name))
        for part in fields(PlanCost)
        if part.name != "relaxed_micro_usd_per_h"
    )
    return tuple(CostPart(name, _change_said(change)) for name, change in changes if change)


def _change_said(micro_usd_per_h: int) -> str:
    """``+$1.20``, ``−$0.50``, ``no change``."""
    if not micro_usd_per_h:
        return "no change"
    return f"{'+' if micro_usd_per_h > 0 else '−'}{formatting.usd(abs(micro_usd_per_h))}"
