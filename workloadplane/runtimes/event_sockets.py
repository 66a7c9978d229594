"""Where an engine on this machine publishes what happens in its KV cache: a socket that only this user can reach.

The place follows from the replica's id alone, so that an agent which starts anew finds it again. The state
directory's path may be too long for a unix socket, so it lies in a private folder of the temporary one.
"""

import hashlib
import os
import tempfile
from pathlib import Path


def event_address(replica_id: str) -> str:
    """The address for ZeroMQ; empty where the folder can't be had for this user alone: then nothing is published."""
    directory = Path(tempfile.gettempdir()) / f"meridian-{os.getuid()}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
    except OSError:
        return ""
    if directory.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        return ""
    return f"ipc://{directory / _name(replica_id)}"


def forget_event_address(replica_id: str) -> None:
    """The replica has ended: nothing of its socket stays."""
    path = Path(tempfile.gettempdir()) / f"meridian-{os.getuid()}" / _name(replica_id)
    path.unlink(missing_ok=True)


def _name(replica_id: str) -> str:
    return f"kv-{hashlib.sha256(replica_id.encode()).hexdigest()[:16]}"
