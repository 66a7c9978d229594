"""Empty the database after a test that committed, in milliseconds.

Django truncates every table, of which each costs files, and then announces a migration that fills two of them
again. Nearly all tables of ours are empty after nearly all tests: only those that are not are emptied here, in
one statement, and what migrations keep for Django itself stays.
"""

from functools import cache

from django.apps import apps
from django.db import connections
from django.test import TransactionTestCase

#: Filled when the tables are made, and the same ever after.
_KEPT = frozenset({"django_content_type", "auth_permission"})

_EMPTY = """
DO $$
DECLARE
  name text;
  filled boolean;
BEGIN
  -- Neither foreign keys nor the audit trail's own guard are asked: everything goes.
  SET LOCAL session_replication_role = replica;
  FOREACH name IN ARRAY ARRAY[{names}] LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO filled;
    IF filled THEN
      EXECUTE format('DELETE FROM %I', name);
    END IF;
  END LOOP;
END $$
"""


def empty(database: str = "default") -> None:
    """Take every row away that is not Django's own."""
    with connections[database].cursor() as cursor:
        cursor.execute(_statement())


@cache
def _statement() -> str:
    models = apps.get_models(include_auto_created=True)
    names = {model._meta.db_table for model in models if model._meta.managed} - _KEPT
    return _EMPTY.format(names=", ".join(f"'{name}'" for name in sorted(names)))


def empty_quickly() -> None:
    """Have Django's transactional tests end this way from now on."""

    def teardown(self: TransactionTestCase) -> None:
        for database in self._databases_names(include_mirrors=False):  # type: ignore[attr-defined]
            empty(database)

    TransactionTestCase._fixture_teardown = teardown  # type: ignore[attr-defined]
