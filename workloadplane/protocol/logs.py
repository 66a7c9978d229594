"""Replicas' logs on demand: nothing goes up while nobody asks.

The answer to a sync names the logs that somebody reads just now (``SyncResponse.logs_wanted``). From then on the agent
sends what is new in them, ``POST /agent/v1/logs`` once a second, and each answer says which are wanted still; none ends
it. Signed like a sync, over ``logs_signed_bytes``. A log may hold what clients said: it is bounded, and never kept.
"""

import re

import msgspec

LOGS_PATH = "/agent/v1/logs"
LOGS_WANTED_MAX = 32
CHUNK_CHARS_MAX = 64 * 1024
MAX_LOGS_BYTES = 8 * 1024 * 1024

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_CONTROLS = dict.fromkeys(set(range(32)) - {9, 10} | set(range(127, 160)))


class LogWanted(msgspec.Struct, frozen=True, kw_only=True):
    """A log that somebody reads. ``watch_id`` is new each time that somebody begins after nobody did."""

    watch_id: str
    runtime_ref: str


class LogChunk(msgspec.Struct, frozen=True, kw_only=True):
    """What is new in a log, whole lines where possible; the first of a watch is the log's end.

    sequence: rises within a watch, also over restarts of the agent; one that does not is a repetition
    kept:     False = the runtime has no log of this replica (any more)
    """

    watch_id: str
    sequence: int
    text: str
    kept: bool = True


class LogsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk of each log that is followed, empty where nothing is new."""

    wire_version: int
    cluster_id: str
    instance_id: str
    cluster_epoch: int
    chunks: tuple[LogChunk, ...]


class LogsResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The logs that are wanted still, and those that are wanted now."""

    wanted: tuple[LogWanted, ...]


def logs_signed_bytes(body: bytes) -> bytes:
    """What an agent signs when it sends logs."""
    return b"meridian-logs-1\n" + body


def log_text(raw: str) -> str:
    """A log's text without what would steer the terminal of whoever reads it, and what no database holds."""
    return _ESCAPES.sub("", raw).translate(_CONTROLS)
