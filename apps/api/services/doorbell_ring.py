"""Ringing a task when the transaction commits. The rows are the queue of truth: a lost ring costs a few seconds."""

import logging
from typing import Any

from django.db import transaction

logger = logging.getLogger(__name__)


def doorbell_ring(task: str, *args: Any) -> None:
    """Start ``task`` once the caller's transaction has committed, if the broker is there.

    A dead broker is logged and otherwise changes nothing: the periodic reconciliation finds what is left to do.
    """

    def ring() -> None:
        from controlplane.celery import application

        try:
            application.send_task(task, args=args, retry=False)
        except Exception as error:
            logger.warning("broker unreachable, %s waits for the reconciliation: %s", task, error)
            return

    transaction.on_commit(ring, robust=True)
