"""``python -m workloadplane.gateway`` as a process of its own, for tests that end, kill or replace it."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Program:
    """A running one. ``told``: what it logs, as it comes."""

    process: asyncio.subprocess.Process
    port: int
    told: list[dict[str, Any]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def program(
    agent_state_dir: Path, state_dir: Path, *options: str, stdout: int = subprocess.DEVNULL
) -> AsyncIterator[Program]:
    """A gateway that serves, until the block ends. ``stdout``: where its access log goes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workloadplane.gateway", "--agent-state-dir", str(agent_state_dir),
        "--state-dir", str(state_dir), *(() if "--port" in options else ("--port", "0")), *options,
        stdout=stdout, stderr=subprocess.PIPE,
    )  # fmt: skip
    told: list[dict[str, Any]] = []
    reading: asyncio.Task[None] | None = None
    assert process.stderr is not None
    stderr = process.stderr

    async def read() -> None:
        while line := await stderr.readline():
            with contextlib.suppress(ValueError):
                told.append(json.loads(line))

    try:
        while line := await stderr.readline():
            told.append(json.loads(line))
            if told[-1]["event"] == "gateway serves":
                break
        assert told and "port" in told[-1], f"it did not start: {told}"
        reading = asyncio.create_task(read())
        yield Program(process, told[-1]["port"], told)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if reading is not None:
            await reading
