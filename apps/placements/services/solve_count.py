"""What became of each solve: counted, and what failed or could not be planned with, said once."""

from collections.abc import Iterable
from uuid import UUID

from django.db import connection, transaction

from apps.deployments import selectors as deployments
from apps.deployments.services.deployment_observe import deployment_observe
from apps.deployments.services.placed_set import Placed, placed_set
from apps.placements.models import ROWS_LEFT_OUT, PlacementClock, SolveKind, SolveOutcome
from apps.placements.soundness import Unsound, deployment_refusal
from apps.telemetry.services import EventFacts, event_record, events_record
from controlplane.placement import RowError

_CHARACTERS_MAX = 1000
_MESSAGE_CHARACTERS_MAX = 1200


def solve_count(*, organization_id: UUID, kind: SolveKind, outcome: SolveOutcome, solve_s: float) -> None:
    """Count one that did not fail; if the one before did, say that this is over."""
    _count(organization_id, kind, outcome, solve_s)
    if PlacementClock.objects.filter(organization_id=organization_id, failures__has_key=kind.value).exists():
        _failure_set(organization_id, kind.value, None)
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
    if _failure_set(organization_id, kind.value, said):
        _tell_failure(organization_id, kind, said, _concerned(row))


def rows_left_out_tell(*, organization_id: UUID, unsound: Unsound) -> None:
    """Say once which rows can't be planned with, and that they can again. The rest is planned without them.

    Each deployment that is left out is told so by its condition; its project by an event, and nobody else by name.
    """
    _refuse(unsound)
    if not _failure_set(organization_id, ROWS_LEFT_OUT, unsound.said or None):
        return
    if not unsound.said:
        message = "every row can be planned with again"
        event_record(organization_id=organization_id, reason="PlacementRecovered", message=message)
        return
    text = "placement goes on without what it can't plan with; what runs of it stays. "
    project_ids = deployments.project_ids(deployment_ids=[UUID(one) for one in unsound.deployments])
    told: list[tuple[UUID | None, UUID | None, str]] = [(None, None, text + unsound.said)]
    for deployment_id, why in sorted(unsound.deployments.items()):
        told.append((project_ids.get(UUID(deployment_id)), UUID(deployment_id), text + why))
    _errors_record(organization_id, "RowLeftOut", told)


@transaction.atomic
def _refuse(unsound: Unsound) -> None:
    """Say it of each deployment, in its condition."""
    locked = deployments.deployments_locked(ids=[UUID(one) for one in unsound.deployments])
    news = placed_set(
        placed=[
            Placed(row, deployment_refusal(row.name, unsound.deployments[str(row.pk)]), (), ())
            for row in locked
        ]
    )
    deployment_observe(deployment_ids=sorted(news))


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
    _errors_record(organization_id, "PlacementFailed", events)


def _errors_record(
    organization_id: UUID, reason: str, told: Iterable[tuple[UUID | None, UUID | None, str]]
) -> None:
    """``told``: (project, deployment, message); of neither where it is the organization's."""
    events_record(
        events=[
            EventFacts(
                organization_id=organization_id,
                project_id=project,
                deployment_id=deployment,
                severity="error",
                reason=reason,
                message=message[:_MESSAGE_CHARACTERS_MAX],
            )
            for project, deployment, message in told
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
def _failure_set(organization_id: UUID, kind: str, said: str | None) -> bool:
    """Keep why the last one failed, or that it did not; whether anything else was known before."""
    clock, _ = PlacementClock.objects.select_for_update().get_or_create(organization_id=organization_id)
    if clock.failures.get(kind) == said:
        return False
    clock.failures = {name: text for name, text in clock.failures.items() if name != kind}
    if said is not None:
        clock.failures[kind] = said
    clock.save(update_fields=["failures"])
    return True
