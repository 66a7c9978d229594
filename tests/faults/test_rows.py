"""How the matrix ends: with a status that tells, and with nothing of its own left behind."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.matrix import __main__ as command
from tests.faults.matrix import measures
from tests.faults.matrix.leftovers import end_leftovers
from tests.faults.matrix.report import Measure

SLEEPS = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]


@pytest.mark.parametrize(("met", "status"), [(True, 0), (None, 0), (False, 1)])
def test_the_status_tells_whether_all_goals_were_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], met: bool | None, status: int
) -> None:
    """What has no goal misses none."""

    async def lost(*_: Any) -> list[Measure]:
        return [Measure("region killed", "≤ 2.0 s", "1.9 s", met)]

    monkeypatch.setattr(measures, "lost_region", lost)
    assert command.main(["--rows", "lost"]) == status
    assert "| region killed | ≤ 2.0 s | 1.9 s |" in capsys.readouterr().out


def test_a_row_that_breaks_off_is_missed_and_the_next_is_played(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With why, in the table too."""

    async def lost(*_: Any) -> list[Measure]:
        raise AssertionError("everybody is healthy did not hold within 90 s")

    async def returns() -> list[Measure]:
        return [Measure("return of the region: errors", "none", "0", met=True)]

    monkeypatch.setattr(measures, "lost_region", lost)
    monkeypatch.setattr(measures, "region_returns", returns)
    assert command.main(["--rows", "lost,return"]) == 1
    said = capsys.readouterr().out
    assert "| row lost | played | broke off: AssertionError everybody is healthy did not hold" in said
    assert "| return of the region: errors | none | 0 | met |" in said


def test_what_was_left_behind_is_ended_and_told(tmp_path: Path) -> None:
    """By who knows the folder; nobody else is touched."""
    own, other = tmp_path / "own", tmp_path / "other"
    ours, theirs = (
        subprocess.Popen(SLEEPS, env={**os.environ, "STATE": f"{folder}/var"}, stdout=subprocess.PIPE)
        for folder in (own, other)
    )
    try:
        for each in (ours, theirs):
            assert each.stdout is not None
            each.stdout.readline()
        (told,) = end_leftovers(own)
        assert told.startswith(f"process {ours.pid}: {sys.executable} -c import time")
        assert ours.wait(10) < 0
        assert theirs.poll() is None
        assert end_leftovers(own) == []
    finally:
        for each in (ours, theirs):
            each.kill()
            each.wait()
            assert each.stdout is not None
            each.stdout.close()
