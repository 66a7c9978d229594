"""What is kept of a stream while it runs, at next to no cost: references to its bytes, read in batches.

Numbers of tokens that the gateway asked for itself are shown to nobody: in the bytes that pass they are replaced
by ``null``, which is what engines say where they were not asked.
"""

import re

from workloadplane.gateway.resume.told import Told

#: More than this is not kept: such a stream ends with an error when its replica dies.
KEPT_BYTES_MAX = 4 * 1024 * 1024
_BATCH_BYTES = 4 * 1024
_IDS = re.compile(rb'token_ids":\[[\d, ]*\]')
_IDS_BEGIN = b'token_ids":['
_NO_IDS = b'token_ids":null'


def _without_ids(events: bytes) -> bytes:
    """The same events with ``null`` for numbers; one event with one list, the usual case, costs no search."""
    at = events.rfind(_IDS_BEGIN)
    if at < 0:
        return events
    end = events.find(b"]", at)
    if events.rfind(_IDS_BEGIN, 0, at) >= 0 or end < 0:
        return _IDS.sub(_NO_IDS, events)
    return events[:at] + _NO_IDS + events[end + 1 :]


class Kept:
    """One stream's. ``overflowed``: it was longer than what is kept."""

    __slots__ = ("_hides_ids", "_raw", "_raw_bytes", "_told", "overflowed")

    def __init__(self, *, hides_ids: bool) -> None:
        self._hides_ids = hides_ids
        self._raw: list[bytes] = []
        self._raw_bytes = 0
        self._told = Told()
        self.overflowed = False

    def take(self, events: bytes) -> bytes:
        """Keep whole events; returns them as the client may see them."""
        if not self.overflowed:
            self._raw.append(events)
            self._raw_bytes += len(events)
            if self._raw_bytes > _BATCH_BYTES:
                self._read()
        return _without_ids(events) if self._hides_ids else events

    def told(self) -> Told:
        """All that has been told; parsed up to now."""
        self._read()
        return self._told

    def _read(self) -> None:
        told = self._told
        told.add(b"".join(self._raw))
        self._raw.clear()
        self._raw_bytes = 0
        if told.kept_bytes > KEPT_BYTES_MAX:
            self.overflowed = True
            self._told = Told()
