"""Where the agent's unix socket is, also when the state directory's path is too long for one.

The name of a unix socket has at most 107 bytes. Usually it is ``agent.sock`` in the agent's state
directory; for a longer path the agent makes a private directory in the system's temporary one and writes
the socket's true path into the state file ``agent.sock.path``. A gateway asks ``agent_socket`` each time it connects.
"""

import hashlib
import os
import tempfile
from pathlib import Path

from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.statefile import read_state, write_state

SOCKET_NAME = "agent.sock"
_POINTER_NAME = "agent.sock.path"
_PATH_BYTES_MAX = 103  # of macOS, the smallest; Linux allows 107


def agent_socket(agent_state_dir: Path) -> Path:
    """The path to connect to. Raises OSError when the state directory can't be read."""
    named = read_state(agent_state_dir / _POINTER_NAME)
    if isinstance(named, bytes):
        return Path(os.fsdecode(named))
    return agent_state_dir / SOCKET_NAME


def place_agent_socket(agent_state_dir: Path) -> Path | Refusal:
    """The path to bind, in a directory that only this user may enter; the pointer is written where needed.

    Raises OSError when the disk refuses.
    """
    pointer = agent_state_dir / _POINTER_NAME
    direct = agent_state_dir / SOCKET_NAME
    if len(os.fsencode(direct)) <= _PATH_BYTES_MAX:
        pointer.unlink(missing_ok=True)
        return direct
    digest = hashlib.sha256(os.fsencode(agent_state_dir.resolve())).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"meridian-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or directory.is_symlink():
        return Refusal(
            rule="private_directory",
            subject=str(directory),
            value=f"mode {status.st_mode & 0o777:o}, owner {status.st_uid}",
            remedy="remove it, or choose a state directory with a shorter path",
        )
    path = directory / f"{digest}.sock"
    write_state(pointer, os.fsencode(path))
    return path
