"""What is left of a system that was to end: processes that know its folder, and mounts in it."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path


def end_leftovers(folder: Path) -> list[str]:
    """End and unmount all of it; what that was, in words. Nothing but this folder's is touched."""
    found = []
    for pid, command in processes_of(folder):
        found.append(f"process {pid}: {command[:120]}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for mounted in reversed(mounts_in(folder)):
        found.append(f"mount {mounted}")
        subprocess.run(["umount", "-l", mounted], capture_output=True, check=False)
    return found


def processes_of(folder: Path) -> list[tuple[int, str]]:
    """Those that have the folder in their command line or environment; never this process."""
    wanted = os.fsencode(folder) + b"/"
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            if command and wanted in command + (entry / "environ").read_bytes():
                found.append((int(entry.name), command.replace(b"\0", b" ").decode(errors="replace").strip()))
    return sorted(found)


def mounts_in(folder: Path) -> list[str]:
    """Outer ones first."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{folder}/")]
