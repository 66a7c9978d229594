"""Addresses of unix sockets that may lie deep: the kernel allows about 100 bytes of path."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.embedded.errors import EmbeddedError

_LONGEST_BYTES = 100


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """The path itself, or on Linux a short name of it, good for a bind or connect inside the block.

    Raises EmbeddedError where the path is too long and there is no short name.
    """
    text = str(path)
    if len(os.fsencode(text)) <= _LONGEST_BYTES:
        yield text
        return
    if sys.platform != "linux":
        raise EmbeddedError(f"the path {text} is too long for a socket: move the checkout to a shorter one")
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
