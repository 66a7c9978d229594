"""Messages for the pager: rows first, in the transaction that they tell of; sent by ``webhooks_deliver``."""

from datetime import datetime
from typing import Any

import msgspec

from apps.api.services.doorbell_ring import doorbell_ring
from apps.incidents.models import Incident, Webhook, WebhookDelivery

DELIVER = "apps.incidents.tasks.webhooks_deliver"


def message_queue(*, incident: Incident, message_type: str, now: datetime) -> None:
    """One message to every webhook of the organization."""
    body = _body(message_type, incident_told(incident), now)
    rows = [
        WebhookDelivery(webhook=webhook, type=message_type, body=body, next_at=now)
        for webhook in Webhook.objects.filter(organization_id=incident.organization_id)
    ]
    if rows:
        WebhookDelivery.objects.bulk_create(rows)
        doorbell_ring(DELIVER)


def message_test(*, webhook: Webhook, now: datetime) -> WebhookDelivery:
    """A message that says nothing but that it arrives."""
    body = _body("webhook.test", {"webhook_id": str(webhook.pk)}, now)
    made = WebhookDelivery.objects.create(webhook=webhook, type="webhook.test", body=body, next_at=now)
    doorbell_ring(DELIVER)
    return made


def incident_told(incident: Incident) -> dict[str, Any]:
    """What a pager is told: it names no deployment, for a webhook belongs to no project."""
    where = incident.name.rpartition("/")[0] if incident.kind == "replica" else incident.name
    drill = incident.drill
    return {
        "id": str(incident.pk),
        "kind": incident.kind,
        "name": where,
        "title": f"replicas in {where}" if incident.kind == "replica" else str(incident),
        "state": incident.state,
        "severity": incident.severity,
        "cause": incident.cause,
        "evidence": incident.evidence,
        "parent_id": str(incident.parent_id) if incident.parent_id else None,
        "drill": {"id": str(drill.pk), "title": str(drill)} if drill is not None else None,
        "opened_at": incident.opened_at.isoformat(),
        "resolved_at": incident.resolved_at.isoformat() if incident.resolved_at else None,
        "detected_after_s": incident.detected_after_s,
    }


def _body(message_type: str, data: dict[str, Any], now: datetime) -> str:
    """Kept as it was made, so that every attempt signs the same bytes."""
    return msgspec.json.encode({"type": message_type, "timestamp": now.isoformat(), "data": data}).decode()
