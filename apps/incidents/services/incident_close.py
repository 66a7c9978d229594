"""The end of an incident: what it cost in all, and what is written of it."""

from datetime import datetime
from uuid import UUID

from apps.incidents.models import Incident, IncidentDeployment, IncidentRecord
from apps.incidents.record import record_markdown
from apps.incidents.selectors import record_facts
from apps.incidents.services.incident_follow import count


def incident_close(incident: Incident, *, now: datetime) -> None:
    """Count what it cost to the end, and write its records: one for operators, one for each project it touched.

    What was folded under another is counted there.
    """
    rows = list(incident.deployments.all())
    if incident.parent_id is None:
        for row in rows:
            count(row, now)
        IncidentDeployment.objects.bulk_update(rows, ["counted_since", "extra_micro_usd"])
    readers: list[UUID | None] = [None, *sorted({row.project_id for row in rows})]
    IncidentRecord.objects.bulk_create(
        [
            IncidentRecord(
                incident=incident,
                project_id=project_id,
                markdown=record_markdown(record_facts(incident=incident, project_id=project_id)),
            )
            for project_id in readers
        ],
        ignore_conflicts=True,
    )
