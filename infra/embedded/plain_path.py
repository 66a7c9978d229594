"""Other names, without spaces, for folders whose own path has some.

vLLM compiles for the CPU through a C++ compiler, whose command line torch builds without quotes: a cache
or an installation under a path with spaces makes every compilation fail. So engines get to see such a
folder through a link in the system's folder for temporary files.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout


def plain_path(layout: Layout, folder: Path) -> Path:
    """The folder itself, or a link to it where its path has spaces.

    Raises EmbeddedError where somebody else has put something in the link's place.
    """
    if not any(character.isspace() for character in str(folder)):
        return folder
    link = _link(layout, folder)
    if not _is_ours(link, folder):
        try:
            link.symlink_to(folder)
        except FileExistsError:
            raise EmbeddedError(f"{link} is in the way of a link to {folder}: remove it") from None
    return link


def remove_links(layout: Layout) -> None:
    """Remove the links that `plain_path` made for this state folder."""
    for folder in (layout.engines, layout.cache):
        link = _link(layout, folder)
        if _is_ours(link, folder):
            link.unlink()


def _link(layout: Layout, folder: Path) -> Path:
    instance = layout.instance.read_text().strip()
    return Path(tempfile.gettempdir()) / f"meridian-{instance[:16]}-{folder.name.strip('.')}"


def _is_ours(link: Path, folder: Path) -> bool:
    try:
        return link.lstat().st_uid == os.geteuid() and link.readlink() == folder
    except OSError:
        return False
