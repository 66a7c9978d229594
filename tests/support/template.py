"""A database with all tables, made once in a test run; every process of the run begins with a copy of it."""

import psycopg
from django.core.management import call_command
from django.db import connection

_NAME = "meridian_template"
#: Of an advisory lock: whoever comes second waits until the first is done.
_LOCK = 7301


def template_database() -> str:
    """Its name. Whoever comes first makes it; ``connection`` is as it was afterwards."""
    parameters = {**connection.get_connection_params(), "dbname": "postgres"}
    with psycopg.connect(autocommit=True, **parameters) as server:
        server.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        if server.execute("SELECT FROM pg_database WHERE datname = %s", [_NAME]).fetchone() is None:
            server.execute(f"CREATE DATABASE {_NAME}")
            _make_tables()
    return _NAME


def _make_tables() -> None:
    name = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = _NAME
    try:
        call_command("migrate", verbosity=0, interactive=False)
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name
