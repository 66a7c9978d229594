"""Files of requests as the simulator reads them: for what plays them, and for what asks by them.

What reads (the extra ``simulation``) is imported only when a verb runs: the command also installs without it.
"""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from meridian.arrivals import Recorded
from meridian.errors import UsageError

_NEEDS = ("highspy", "msgspec", "numpy", "xxhash")


def simulation_needed() -> None:
    """Raises UsageError where the extra is not installed."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"this needs {missing[0]}: pip install 'meridian-serving[simulation]'")


class Files:
    """A world's files, beside its document."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        return self._folder / name

    def lines(self, name: str) -> Iterator[str]:
        """One after the other, each bounded."""
        from controlplane.simulation.serving.trace_rows import LINE_CHARACTERS_MAX

        path = self.path(name)
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8", errors="replace", newline="") as file:
            try:
                yield from iter(partial(file.readline, LINE_CHARACTERS_MAX + 1), "")
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise UsageError(f"{path} is damaged ({error}): pack it again") from None


@contextmanager
def errors_told() -> Iterator[None]:
    """What is wrong with a world or a trace is a wrong argument."""
    from controlplane.simulation.serving.fields import WorldError
    from controlplane.simulation.serving.trace_rows import TraceError

    try:
        yield
    except (WorldError, TraceError) as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename or 'a file'}: {error.strerror or error}") from None


def recorded(path: Path, *, requests_max: int) -> Recorded:
    """A trace's requests. Raises UsageError for one that can't be read or has more of them."""
    simulation_needed()
    from controlplane.simulation.serving.trace import Trace
    from controlplane.simulation.serving.world_document import from_trace

    with errors_told():
        source = from_trace(str(path), rows_max=requests_max)
        lines = Files(Path()).lines(source.file)
        batches = list(Trace(lines, form=source.form, rows_max=source.rows_max))
    return Recorded(
        at_s=[at for batch in batches for at in batch.at_s.tolist()],
        input_tokens=[count for batch in batches for count in batch.input_tokens.tolist()],
        output_tokens=[count for batch in batches for count in batch.output_tokens.tolist()],
    )
