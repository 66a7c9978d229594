"""The observer of ``active_passive`` deployments, in the process that hears the agents: who can't hear judges nobody.

Of all web processes one observes, whichever holds an advisory lock on its own connection. A process that is stopped
loses it: the server ends a session that is idle for ``_SESSION_IDLE_S``. Whether one or two observe is no matter of
safety: each goes by what it has seen itself, and the tables settle what may be.
"""

import threading
from time import monotonic

import structlog
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db import connection

from apps.agents.services import SeatWatch, plane_restored_settle

_log = structlog.get_logger(__name__)

LOOK_S = 0.5
_LOCK = 7304
_SESSION_IDLE_S = 5
#: Between two statements of a transaction much may have to be made: the tables of a large organization.
_TRANSACTION_IDLE_S = 60
_RETRY_S = 1.0


class WatchThread:
    """Observes from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="seat-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Blocking: until the look that runs is over."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                if _locked():
                    self._observe()
            except ImproperlyConfigured as error:
                _log.error("nothing can be signed", reason=str(error))
            except DatabaseError as error:
                _log.warning("the database does not answer: nobody is observed", reason=str(error)[:200])
            finally:
                connection.close()  # and with it the lock
            self._over.wait(_RETRY_S)

    def _observe(self) -> None:
        epoch = plane_restored_settle()
        if epoch is not None:
            _log.warning("this is another database than before: the plane epoch is raised", plane_epoch=epoch)
        watch = SeatWatch()
        while not self._over.wait(LOOK_S):
            for organization_id in watch.look(monotonic()):
                _log.info("seats settled", organization_id=str(organization_id))


def _locked() -> bool:
    """Whether this process observes from now on, for as long as its connection lives."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return False
        cursor.execute(f"SET idle_session_timeout = '{_SESSION_IDLE_S}s'")
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_TRANSACTION_IDLE_S}s'")
    return True
