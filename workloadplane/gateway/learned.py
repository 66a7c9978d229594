"""What a gateway's processes have learned of deployments, kept beside their spool: the next ones go by it at once.

One file for each process, written anew with every window in which something was measured. A process reads all of them,
as the deployments whose queue it owns may have been another's. What was measured long ago counts no more.
"""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path

import msgspec
import structlog

from workloadplane.gateway.queueing import Learned
from workloadplane.protocol.statefile import read_state, write_state

DEPLOYMENTS_MAX = 4096
FILES_MAX = 64
KEPT_S = 7 * 86_400.0
_log = structlog.get_logger(__name__)
_decoder = msgspec.json.Decoder(dict[str, Learned])


def encoded(learned: Mapping[str, Learned], now_at: float) -> bytes:
    """The file's content: what is not too old, the newest if there is too much. ``now_at``: seconds since 1970."""
    kept = {name: told for name, told in learned.items() if _counts(told, now_at)}
    newest = sorted(kept, key=lambda name: -kept[name].measured_at)[:DEPLOYMENTS_MAX]
    return msgspec.json.encode({name: kept[name] for name in sorted(newest)})


def decoded(content: bytes, now_at: float) -> dict[str, Learned]:
    """What of a file still counts. Raises msgspec.DecodeError."""
    return {name: told for name, told in _decoder.decode(content).items() if _counts(told, now_at)}


def _counts(told: Learned, now_at: float) -> bool:
    """Whether it was measured lately, and can have been at all."""
    means = (told.request_s, told.output_tokens, told.start_s)
    is_sane = all(mean is None or (isfinite(mean) and mean >= 0.0) for mean in means)
    return is_sane and any(mean is not None for mean in means) and abs(now_at - told.measured_at) <= KEPT_S


class LearnedFile:
    """One process's. ``index``: of the processes that share ``directory``."""

    def __init__(self, directory: Path, index: int) -> None:
        self._directory = directory
        self._path = directory / f"learned-{index}.json"
        self._written = encoded({}, 0.0)

    def read(self, now_at: float) -> dict[str, Learned]:
        """What all processes have left, of each deployment what was measured last. What is damaged is passed over."""
        latest: dict[str, Learned] = {}
        for path in sorted(self._directory.glob("learned-*.json"))[:FILES_MAX]:
            for name, told in _read(path, now_at).items():
                if name not in latest or told.measured_at > latest[name].measured_at:
                    latest[name] = told
        return latest

    def write(self, learned: Mapping[str, Learned], now_at: float) -> None:
        """Keep it, if anything is new. A disk that refuses costs the next process what is new, and nothing else."""
        content = encoded(learned, now_at)
        if content == self._written:
            return
        try:
            write_state(self._path, content)
        except OSError as error:
            _log.warning("state file not written", file=self._path.name, reason=str(error))
        else:
            self._written = content


def _read(path: Path, now_at: float) -> dict[str, Learned]:
    try:
        content = read_state(path)
        if isinstance(content, bytes):
            return decoded(content, now_at)
        reason = str(content)
    except (OSError, msgspec.DecodeError) as error:
        reason = str(error)[:200]
    _log.warning("state file passed over", file=path.name, reason=reason)
    return {}
