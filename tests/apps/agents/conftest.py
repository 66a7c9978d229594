"""A real server for the tests that need one."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection

from tests.support.waiting import eventually


def _database_url() -> str:
    parameters = connection.get_connection_params()
    user = quote(str(parameters.get("user") or "postgres"))
    password = f":{quote(parameters['password'])}" if parameters.get("password") else ""
    host = quote(str(parameters.get("host") or ""), safe="")
    port = f":{parameters['port']}" if parameters.get("port") else ""
    return f"postgresql://{user}{password}@{host}{port}/{parameters['dbname']}"


@pytest.fixture
def server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """granian on the test's database; its address and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "DATABASE_URL": _database_url(),
        "DJANGO_SETTINGS_MODULE": "controlplane.settings.embedded",
        "MERIDIAN_SECRET_KEY": "for-tests-only-" + "x" * 50,
        "MERIDIAN_SIGNING_KEY": settings.MERIDIAN_SIGNING_KEY,
    }
    command = ["-m", "granian", "--interface", "asgi", "--workers", "1", "--no-ws", "--log-level", "warning"]
    command += ["--host", "127.0.0.1", "--port", str(port), "controlplane.asgi:application"]
    process = subprocess.Popen([sys.executable, *command], env=environment)
    try:
        eventually(lambda: _listens(port), within_s=60, what="a listening server")
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
