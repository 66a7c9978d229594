"""A process whose wall clock is wrong, and jumps while it runs: a library of a page, made where there is a compiler.

The programs know nothing of it: their C library's clock is moved (``LD_PRELOAD``) by what a file says then.
"""

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")


def library(folder: Path) -> Path | None:
    """The compiled library in this folder; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    made = folder / "clock_offset.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(made), str(_SOURCE), "-ldl"], check=True)
    return made


@dataclass(frozen=True)
class Clock:
    """The wall clock of those that are started with ``environment``."""

    library: Path
    file: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "MERIDIAN_TESTS_CLOCK_OFFSET": str(self.file)}

    def set(self, offset_s: float) -> None:
        """From now on it is wrong by so much."""
        with self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.write(struct.pack("d", offset_s))
