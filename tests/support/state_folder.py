"""A folder for the state of a whole system."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def state_folder(name: str) -> Iterator[Path]:
    """A folder that is gone afterwards.

    Not under pytest's own: any other pytest that starts takes from others the right to walk through that one, and
    PostgreSQL, which runs as another user where we are root, then finds its files no more.
    """
    folder = Path(tempfile.mkdtemp(prefix="meridian-"))
    try:
        yield folder / name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
