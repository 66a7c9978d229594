"""What became of each solve: counted, and where it failed, said once."""

from uuid import UUID

from django.db import connection, transaction

from apps.deployments import selectors as deployments
from apps.placements.models import PlacementClock, SolveKind, SolveOutcome
from apps.telemetry.services import EventFacts, event_record, events_record
from controlplane.placement import RowError

_CHARACTERS_MAX = 1000


def solve_count(*, organization_id: UUID, kind: SolveKind, outcome: SolveOutcome, solve_s: float) -> None:
    """Count one that did not fail; if the one before did, say that this is over."""
    _count(organization_id, kind, outcome, solve_s)
    if PlacementClock.objects.filter(organization_id=organization_id, failures__has_key=kind.value).exists():
        _failure_set(organization_id, kind, None)
        event_record(
            organization_id=organization_id,
            reason="PlacementRecovered",
            message="placement is solved again",
        )


def solve_failed(*, organization_id: UUID, kind: SolveKind, error: Exception, solve_s: float) -> None:
    """Count a failure, and say why unless that was said already. The last plan stays in force.

    What is wrong with a project's row is told to that project; the others only hear that something is.
    """
    _count(organization_id, kind, SolveOutcome.FAILED, solve_s)
    said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    said = " ".join(said.split())[:_CHARACTERS_MAX]
    row = error.row if isinstance(error, RowError) else None
    if _failure_set(organization_id, kind, said):
        _tell_failure(organization_id, kind, said, _concerned(row))


def _concerned(row: object) -> tuple[UUID | None, UUID | None]:
    """(project, deployment) whose row it is; none of either where it is the whole organization's."""
    deployment_id = getattr(row, "deployment_id", None)
    if deployment_id is not None:
        project_id = deployments.project_ids(deployment_ids=[UUID(deployment_id)]).get(UUID(deployment_id))
        return project_id, UUID(deployment_id)
    project_id = getattr(row, "project_id", None)
    return (UUID(project_id) if project_id else None), None


def _tell_failure(
    organization_id: UUID, kind: SolveKind, said: str, concerned: tuple[UUID | None, UUID | None]
) -> None:
    text = f"placement could not be solved ({kind.value}); the last plan stays in force. "
    project_id, deployment_id = concerned
    others = said if project_id is None else "One project's row is at fault; that project is told which"
    events: list[tuple[UUID | None, UUID | None, str]] = [(None, None, text + others)]
    if project_id is not None:
        events.append((project_id, deployment_id, text + said))
    events_record(
        events=[
            EventFacts(
                organization_id=organization_id,
                project_id=project,
                deployment_id=deployment,
                severity="error",
                reason="PlacementFailed",
                message=message,
            )
            for project, deployment, message in events
        ]
    )


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
def _failure_set(organization_id: UUID, kind: SolveKind, said: str | None) -> bool:
    """Keep why the last one failed, or that it did not; whether anything else was known before."""
    clock, _ = PlacementClock.objects.select_for_update().get_or_create(organization_id=organization_id)
    if clock.failures.get(kind.value) == said:
        return False
    clock.failures = {name: text for name, text in clock.failures.items() if name != kind.value}
    if said is not None:
        clock.failures[kind.value] = said
    clock.save(update_fields=["failures"])
    return True
