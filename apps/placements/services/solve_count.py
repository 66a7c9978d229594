"""What became of each solve: counted, and where it failed, said once."""

from uuid import UUID

from django.db import connection, transaction

from apps.placements.models import PlacementClock, SolveKind, SolveOutcome
from apps.telemetry.services import event_record

_CHARACTERS_MAX = 1000


def solve_count(*, organization_id: UUID, kind: SolveKind, outcome: SolveOutcome, solve_s: float) -> None:
    """Count one that did not fail; if the one before did, say that this is over."""
    _count(organization_id, kind, outcome, solve_s)
    if PlacementClock.objects.filter(organization_id=organization_id, failures__has_key=kind.value).exists():
        _failure_set(organization_id, kind, None)


def solve_failed(*, organization_id: UUID, kind: SolveKind, error: Exception, solve_s: float) -> None:
    """Count a failure, and say why unless that was said already. The last plan stays in force."""
    _count(organization_id, kind, SolveOutcome.FAILED, solve_s)
    said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    _failure_set(organization_id, kind, " ".join(said.split())[:_CHARACTERS_MAX])


def _count(organization_id: UUID, kind: SolveKind, outcome: SolveOutcome, solve_s: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO placements_solvecount (organization_id, kind, outcome, solves, solve_s_sum)"
            " VALUES (%s, %s, %s, 1, %s) ON CONFLICT (organization_id, kind, outcome) DO UPDATE"
            " SET solves = placements_solvecount.solves + 1,"
            " solve_s_sum = placements_solvecount.solve_s_sum + excluded.solve_s_sum",
            [organization_id, kind.value, outcome.value, solve_s],
        )


@transaction.atomic
def _failure_set(organization_id: UUID, kind: SolveKind, said: str | None) -> None:
    clock, _ = PlacementClock.objects.select_for_update().get_or_create(organization_id=organization_id)
    if clock.failures.get(kind.value) == said:
        return
    clock.failures = {name: text for name, text in clock.failures.items() if name != kind.value}
    if said is not None:
        clock.failures[kind.value] = said
    clock.save(update_fields=["failures"])
    event_record(
        organization_id=organization_id,
        severity="info" if said is None else "error",
        reason="PlacementRecovered" if said is None else "PlacementFailed",
        message="placement is solved again"
        if said is None
        else f"placement could not be solved ({kind.value}); the last plan stays in force. {said}",
    )
