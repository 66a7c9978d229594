"""PostgreSQL and Valkey from their wheels, as this user."""

import os
from collections.abc import Iterator

import psycopg
import pytest
import redis

from infra.embedded import postgres, valkey
from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout
from infra.embedded.ports import choose, is_free
from infra.embedded.postgres import PostgresServer
from infra.embedded.probe import answers
from infra.embedded.supervisor_client import SupervisorClient
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def database(layout: Layout, client: SupervisorClient) -> Iterator[PostgresServer]:
    server = postgres.server(layout, choose(layout, frozenset(), lambda _: None)["postgres"])
    server.initialise()
    client.start([server.part()])
    server.ensure_database()
    yield server


def test_the_database_is_durable_asks_for_passwords_and_is_no_superusers(
    database: PostgresServer, layout: Layout
) -> None:
    """fsync is on, a wrong password is refused, the application's role owns its database and no more."""
    with psycopg.connect(database.url()) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("SHOW is_superuser").fetchone() == ("off",)
        connection.execute("CREATE EXTENSION btree_gist")
        connection.execute("CREATE TABLE kept (id int)")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(database.url().replace("meridian:", "meridian:wrong", 1))
    for secret in layout.postgres.glob("*.password"):
        assert secret.stat().st_mode & 0o777 == 0o600

    database.initialise()
    database.ensure_database()  # a second `up` finds its work done
    with psycopg.connect(database.url()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_foreign_server_on_the_port_is_told_apart(database: PostgresServer, layout: Layout) -> None:
    """Another PostgreSQL on our port is not taken for ours: the message says what to do."""
    other = PostgresServer(folder=layout.state / "other", port=database.port)
    other.initialise()
    with pytest.raises(EmbeddedError, match="is not our PostgreSQL"):
        other.ensure_database()


def test_valkey_asks_for_its_password_which_is_in_no_command_line(
    layout: Layout, client: SupervisorClient
) -> None:
    """Without the password nothing is answered; it lies in a private file."""
    server = valkey.server(layout, choose(layout, frozenset(), lambda _: None)["valkey"])
    part = server.part()
    client.start([part])
    eventually(lambda: answers(part.probe))
    assert redis.Redis.from_url(server.url()).ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=server.port).ping()
    password = (layout.valkey / "password").read_text()
    assert password not in " ".join(part.argv)
    assert (layout.valkey / "valkey.conf").stat().st_mode & 0o777 == 0o600


def test_a_taken_port_is_replaced_said_and_remembered(layout: Layout, client: SupervisorClient) -> None:
    """Somebody else's server keeps its port; ours moves, and stays where it moved."""
    said: list[str] = []
    first = choose(layout, frozenset(), lambda _: None)
    server = valkey.server(layout, first["valkey"])
    client.start([server.part()])
    eventually(lambda: not is_free(server.port))

    assert choose(layout, frozenset({"valkey"}), said.append) == first
    assert said == []

    moved = choose(layout, frozenset(), said.append)
    assert moved["valkey"] != first["valkey"]
    assert said == [f"port {first['valkey']} for valkey is taken: using {moved['valkey']}"]
    assert choose(layout, frozenset(), lambda _: None) == moved


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must give the server to another user")
def test_as_root_the_server_runs_as_another_user_who_sees_none_of_our_secrets(
    database: PostgresServer, client: SupervisorClient
) -> None:
    """The server's process isn't root's."""
    pid = client.status()[0].pid
    assert os.stat(f"/proc/{pid}").st_uid != 0  # noqa: PTH116
