"""`meridian simulate`: a world in, a folder of results out; what is wrong is one line that names it."""

import csv
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from meridian.cli import traces
from meridian.cli.app import main
from meridian.errors import ExitCode
from tests.controlplane.simulation.serving.worlds import DOCUMENT

SMALL = {**DOCUMENT, "hours": 0.02}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs ``meridian simulate …`` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def simulate(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["meridian", "simulate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return simulate


@pytest.fixture
def world(tmp_path: Path) -> str:
    (tmp_path / "world.yaml").write_text(yaml.safe_dump(SMALL))
    return "world.yaml"


def test_a_world_is_played_and_written_down(run: Run, world: str, tmp_path: Path) -> None:
    """The same figures in the table, the JSON, the CSV and the page."""
    code, out, err = run("--world", world, "--policy", "kpa,static:4", "--out", "found")
    assert (code, err) == (ExitCode.OK, "")
    assert "static:4" in out
    assert "found/report.html" in out
    results = json.loads((tmp_path / "found/results.json").read_text())
    assert [each["policy"] for each in results["policies"]] == ["kpa", "static:4"]
    with (tmp_path / "found/summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["replica_hours"]) == results["policies"][1]["replica_hours"]
    assert "static:4" in (tmp_path / "found/report.html").read_text()
    before = {path.name: path.read_bytes() for path in (tmp_path / "found").iterdir()}
    assert set(before) == {"report.html", "results.json", "summary.csv", "timeline.csv"}
    assert run("--world", world, "--policy", "kpa,static:4", "--out", "found")[0] == ExitCode.OK
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "found").iterdir()}


def test_json_for_programs(run: Run, world: str) -> None:
    """On standard output, nothing else beside it."""
    _, out, _ = run("--world", world, "--policy", "static:3", "-o", "json")
    assert json.loads(out)[0]["policy"] == "static:3"


def test_a_worlds_requests_are_a_trace_that_gives_the_same(run: Run, world: str, tmp_path: Path) -> None:
    """Written, packed, and replayed."""
    code, out, _ = run("--world", world, "--write-trace", "trace.csv")
    assert code == ExitCode.OK
    rows = int(re.search(r"([\d,]+) requests", out)[1].replace(",", ""))  # type: ignore[index]
    with gzip.open(tmp_path / "packed.csv.gz", "wb") as file:
        file.write((tmp_path / "trace.csv").read_bytes())
    outcomes = []
    for arguments in (("--world", world), ("--world", world, "--trace", "packed.csv.gz")):
        assert run(*arguments, "--policy", "static:4")[0] == ExitCode.OK
        outcomes.append(json.loads((tmp_path / "simulation/results.json").read_text()))
    assert [each["requests"] for each in outcomes] == [rows, rows]
    made, replayed = (each["policies"][0]["within_slo"] for each in outcomes)
    assert made == pytest.approx(replayed, abs=0.01)
    assert run("--trace", "trace.csv", "--policy", "static:2")[0] == ExitCode.OK


def test_an_interrupted_run_goes_on(
    run: Run, world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is finished is kept, unless the world is another one; the result is the same."""
    arguments = ("--world", world, "--policy", "static:2,static:4")
    assert run(*arguments)[0] == ExitCode.OK
    results = tmp_path / "simulation/results.json"
    whole = results.read_bytes()
    assert run("--world", world, "--policy", "static:2")[0] == ExitCode.OK
    from controlplane.simulation.serving.playing import Play

    played: list[str] = []
    truly = Play.run

    def noted(self: Play, *args: object) -> object:
        played.append(self.policy)
        return truly(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Play, "run", noted)
    assert run(*arguments, "--resume")[0] == ExitCode.OK
    assert played == ["static:4"]
    assert results.read_bytes() == whole
    (tmp_path / world).write_text(yaml.safe_dump({**SMALL, "seed": 6}))
    assert run(*arguments, "--resume")[0] == ExitCode.OK
    assert played == ["static:4", "static:2", "static:4"]


def test_what_is_finished_survives_a_second_interruption(
    run: Run, world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order in which policies are asked for."""
    assert run("--world", world, "--policy", "static:4")[0] == ExitCode.OK
    from controlplane.simulation.serving.playing import Play

    truly = Play.run

    def interrupted(self: Play, *args: object) -> object:
        if self.policy == "static:3":
            raise KeyboardInterrupt
        return truly(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Play, "run", interrupted)
    again = ("--world", world, "--policy", "static:2,static:3,static:4", "--resume")
    code, _, err = run(*again)
    assert (code, err.splitlines()[-1]) == (ExitCode.FAILED, "meridian: interrupted")
    kept = json.loads((tmp_path / "simulation/results.json").read_text())
    assert [each["policy"] for each in kept["policies"]] == ["static:2", "static:4"]


def test_policies_may_have_numbers_for_names(run: Run, tmp_path: Path) -> None:
    """YAML reads them as numbers."""
    (tmp_path / "world.yaml").write_text(
        yaml.safe_dump({**SMALL, "policies": {900: {"kind": "kpa"}, "slow": {}}})
    )
    code, _, err = run("--world", "world.yaml", "--policy", "900")
    assert (code, err) == (ExitCode.OK, "")


def test_where_nothing_can_be_written_nothing_is_played(
    run: Run, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known at once, not after an hour."""
    from controlplane.simulation.serving.playing import Play

    monkeypatch.setattr(Play, "run", None)
    code, _, err = run("--world", world, "--out", "/proc/simulation")
    assert (code, err.count("\n")) == (ExitCode.USAGE, 1)
    assert "/proc/simulation" in err


def test_a_disk_that_is_full_is_told_with_the_file(run: Run, world: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".results.json.part").symlink_to("/dev/full")
    code, _, err = run("--world", world, "--out", str(out))
    assert (code, err.count("\n")) == (ExitCode.USAGE, 1)
    assert f"{out}/results.json: No space left on device" in err
    assert sorted(file.name for file in out.iterdir()) == ["report.html", "summary.csv", "timeline.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give --world FILE, --trace FILE or both"),
        (("--world", "none.yaml"), "none.yaml cannot be read: No such file"),
        (("--world", "list.yaml"), "list.yaml holds no world"),
        (("--world", "wrong.yaml"), "seed 'x': give a number of 0 or more"),
        (
            ("--world", "world.yaml", "--policy", "magic"),
            "policy 'magic': there are predictive, kpa, static:N",
        ),
        (("--world", "world.yaml", "--policy", "kpa,kpa"), "give each policy once"),
        (("--world", "world.yaml", "--policy", ","), "give each policy once"),
        (("--trace", "none.csv"), "none.csv: No such file"),
        (("--trace", "empty.csv"), "empty.csv: there is no row in it"),
        (("--trace", "damaged.csv.gz"), "damaged.csv.gz is damaged (Not a gzipped file"),
        (("--trace", "cut.csv.gz"), "cut.csv.gz is damaged"),
        (("--trace", "binary.csv"), "NUL"),
        (("--trace", "wrong.csv"), "wrong.csv: row 1, output_tokens 'x': not a number"),
        (("--trace", "world.yaml"), "give a file that ends in .csv or .jsonl"),
        (("--trace", "right.csv", "--out", "world.yaml/x"), "Not a directory"),
    ],
)
def test_what_cannot_be_played_says_why(
    run: Run, world: str, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """One line, exit code 2."""
    (tmp_path / "list.yaml").write_text("[1]")
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump({**SMALL, "seed": "x"}))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "damaged.csv.gz").write_bytes(b"not packed")
    (tmp_path / "cut.csv.gz").write_bytes(
        gzip.compress(b"timestamp,input_tokens,output_tokens\n1,1,1\n")[:-9]
    )
    (tmp_path / "binary.csv").write_bytes(b"\x00\x01\x02\n")
    (tmp_path / "wrong.csv").write_text("timestamp,input_tokens,output_tokens\n1,1,x\n")
    (tmp_path / "right.csv").write_text("timestamp,input_tokens,output_tokens\n1,1,1\n")
    code, out, err = run(*arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.count("\n") == 1
    assert said in err


def test_without_its_extra_it_says_which(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base package has the command and none of what plays."""
    monkeypatch.setattr(traces, "_NEEDS", ("no_such_module",))
    code, _, err = run("--trace", "a.csv")
    assert code == ExitCode.USAGE
    assert "pip install 'meridian-serving[simulation]'" in err
