"""Writing incidents and webhooks. One door for an incident's state: ``incident_enter``."""

from apps.incidents.services.incidents_look import incidents_look
from apps.incidents.services.message_queue import message_test
from apps.incidents.services.places_find import Places, places_find
from apps.incidents.services.places_shown import PlaceShown, places_shown
from apps.incidents.services.webhook_add import webhook_add, webhook_remove
from apps.incidents.services.webhooks_deliver import deliveries_purge, webhooks_deliver

__all__ = [
    "PlaceShown",
    "Places",
    "deliveries_purge",
    "incidents_look",
    "message_test",
    "places_find",
    "places_shown",
    "webhook_add",
    "webhook_remove",
    "webhooks_deliver",
]
