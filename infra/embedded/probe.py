"""Does a part answer?"""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

_WITHIN_S = 1.0


def answers(probe: str) -> bool:
    """Whether ``tcp://host:port`` accepts a connection, or an ``http://`` address answers below 400."""
    address = urlsplit(probe)
    try:
        if address.scheme == "tcp":
            with socket.create_connection((address.hostname or "", address.port or 0), timeout=_WITHIN_S):
                return True
        with urllib.request.urlopen(probe, timeout=_WITHIN_S) as answer:  # noqa: S310 - ours, http only
            return bool(answer.status < 400)
    except (OSError, urllib.error.URLError, ValueError):
        return False
