"""What gateway processes learn of deployments outlives them, within bounds."""

import math
from pathlib import Path

from workloadplane.gateway.learned import DEPLOYMENTS_MAX, KEPT_S, LearnedFile, decoded, encoded
from workloadplane.gateway.queueing import Learned

NOW_AT = 1_800_000_000.0


def learned(ago_s: float, request_s: float | None = 2.0) -> Learned:
    return Learned(measured_at=NOW_AT - ago_s, request_s=request_s, output_tokens=10.0)


def test_each_process_reads_what_all_have_left(tmp_path: Path) -> None:
    """Of two that know a deployment the one that measured it last counts; files that are no use are passed over."""
    LearnedFile(tmp_path, 0).write({"chat": learned(50, 4.0), "code": learned(5, 1.0)}, NOW_AT)
    LearnedFile(tmp_path, 1).write({"chat": learned(20, 6.0)}, NOW_AT)
    (tmp_path / "learned-2.json").write_bytes(b"half a fi")
    (tmp_path / "learned-3.json").mkdir()
    told = LearnedFile(tmp_path, 0).read(NOW_AT)
    assert {name: each.request_s for name, each in told.items()} == {"chat": 6.0, "code": 1.0}
    assert (tmp_path / "learned-0.json").stat().st_mode & 0o777 == 0o600


def test_nothing_new_is_not_written_again(tmp_path: Path) -> None:
    """An idle process leaves the disk alone, one that has learned nothing leaves no file."""
    file = LearnedFile(tmp_path, 0)
    file.write({}, NOW_AT)
    assert not list(tmp_path.iterdir())
    file.write({"chat": learned(5)}, NOW_AT)
    (path,) = tmp_path.iterdir()
    written = path.stat().st_ino
    file.write({"chat": learned(5)}, NOW_AT + 10)
    assert path.stat().st_ino == written


def test_what_is_old_or_cannot_be_counts_no_more() -> None:
    """A week, by a clock that may have been set; a mean that is no time is none."""
    kept = {"young": learned(KEPT_S - 1), "ahead": learned(-60.0)}
    gone = {
        "old": learned(KEPT_S + 1),
        "far ahead": learned(-KEPT_S - 1),
        "negative": learned(1, -2.0),
        "endless": learned(1, math.inf),
        "empty": Learned(measured_at=NOW_AT),
    }
    assert decoded(encoded(kept | gone, NOW_AT), NOW_AT) == kept
    assert decoded(encoded(kept, NOW_AT), NOW_AT + 2 * KEPT_S) == {}


def test_the_newest_are_kept_where_there_are_too_many() -> None:
    """The file is bounded, and what it loses is what was measured longest ago."""
    many = {f"d{number}": learned(float(number)) for number in range(DEPLOYMENTS_MAX + 10)}
    kept = decoded(encoded(many, NOW_AT), NOW_AT)
    assert len(kept) == DEPLOYMENTS_MAX
    assert "d0" in kept
    assert f"d{DEPLOYMENTS_MAX}" not in kept
