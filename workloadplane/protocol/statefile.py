"""State files: how the workload plane keeps something on a disk and knows later that it is whole.

One format for everything that an agent persists and a gateway reads when the agent is dead: a first line
``sha256 <64 hexadecimal digits>``, then the content. A file is replaced as one step (temporary file in the
same directory, flushed, renamed, directory flushed), readable by its owner only. The checksum finds torn and
flipped bytes, not forgery: that is what signatures inside the content are for.
"""

import hashlib
import os
import secrets
from pathlib import Path

from workloadplane.protocol.refusal import Refusal
from workloadplane.words import counted

_PREFIX = b"sha256 "
_HEADER_BYTES = len(_PREFIX) + 64 + 1


def write_state(path: Path, content: bytes) -> None:
    """Replace the file at ``path``, all or nothing, mode 0600. Raises OSError when the disk refuses."""
    header = _PREFIX + hashlib.sha256(content).hexdigest().encode() + b"\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(header)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_directory(path.parent)


def read_state(path: Path) -> bytes | Refusal | None:
    """The content of a state file; ``None`` if there is none, a Refusal if it is damaged.

    Raises OSError for anything but a missing file (no permission, input/output error).
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    header, content = raw[:_HEADER_BYTES], raw[_HEADER_BYTES:]
    if not header.startswith(_PREFIX) or not header.endswith(b"\n") or len(header) != _HEADER_BYTES:
        return _damaged(path, f"{counted(len(raw), 'byte')} without a checksum line")
    if header[len(_PREFIX) : -1] != hashlib.sha256(content).hexdigest().encode():
        return _damaged(
            path, f"{counted(len(content), 'byte')} of content that its checksum line does not match"
        )
    return content


def _damaged(path: Path, value: str) -> Refusal:
    return Refusal(
        rule="state_file_whole",
        subject=path.name,
        value=value,
        remedy="the file was truncated or changed; it is written anew when its owner hears from its source",
    )


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
