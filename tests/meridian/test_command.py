"""The command's manners: whom it talks to, what it prints, how it fails."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.api.field_errors import UNSPECIFIC_REMEDY as SAID_BY_THE_API
from infra.embedded import layout
from meridian.cli import context
from meridian.cli.documents import as_yaml, read_document
from meridian.cli.output import Format, print_list
from meridian.errors import UNSPECIFIC_REMEDY, ApiError, ExitCode, NotLoggedIn, UsageError
from tests.meridian.stand_in import ECHO, Answers, run_meridian


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, ExitCode.NOT_AUTHORISED), (403, ExitCode.NOT_AUTHORISED), (404, ExitCode.NOT_FOUND),
     (409, ExitCode.CONFLICT), (412, ExitCode.CONFLICT), (422, ExitCode.FAILED), (503, ExitCode.FAILED)],
)  # fmt: skip
def test_a_refusal_is_one_line_and_a_documented_exit_code(
    server: Callable[[Answers], str], tmp_path: Path, status: int, code: ExitCode
) -> None:
    """What the API refuses ends in its own words on one line of stderr."""
    problem = {
        "title": "No",
        "detail": "the reason\nin two lines",
        "errors": [{"pointer": "/a", "detail": "b"}],
    }
    done = run_meridian(
        server({"/api/v1/deployments/x": (status, problem)}), "deployments", "get", "x", home=tmp_path
    )
    assert done.returncode == code
    assert done.stderr == f"meridian: the reason in two lines; /a: b ({status})\n"
    assert done.stdout == ""


def test_a_documents_errors_are_told_once_with_value_and_remedy() -> None:
    """A problem whose detail sums its errors up is not told twice."""
    error = {
        "pointer": "/engine",
        "detail": "Is not one of: a, b.",
        "value": "c",
        "remedy": "use one of these",
    }
    told = str(ApiError(400, {"detail": "/engine: Is not one of: a, b.", "errors": [error]}))
    assert told == "/engine 'c': Is not one of: a, b; use one of these (400)"


def test_retiring_a_cluster_asks_first(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """Without an answer nothing is sent; with --yes it says what happens when."""
    url = server({"/api/v1/clusters/eu-west/retire": (200, {"name": "eu-west"})})
    assert (
        run_meridian("http://127.0.0.1:9", "clusters", "retire", "eu-west", home=tmp_path).returncode
        == ExitCode.FAILED
    )
    done = run_meridian(url, "clusters", "retire", "eu-west", "--yes", home=tmp_path)
    assert (done.returncode, done.stdout.split(";")[0]) == (ExitCode.OK, "eu-west is retired"), done.stderr


def test_pools_and_reservations_are_changed_by_name_and_id(
    server: Callable[[Answers], str], tmp_path: Path
) -> None:
    """Only what is given is sent; what is not there, and nothing to change, are said before anything is."""
    pool = {"id": "p1", "cluster": "eu-west", "name": "spot"}
    reservation = {"id": "8f0c", "cluster": "eu-west", "pool": "p1"}
    api_url = server(
        {
            "/api/v1/pools": (200, {"items": [pool], "next_cursor": None}),
            "/api/v1/reservations": (200, {"items": [reservation], "next_cursor": None}),
            "/api/v1/pools/p1": (200, ECHO),
            "/api/v1/reservations/8f0c": (200, ECHO),
        }
    )

    def said(*arguments: str) -> tuple[int, str]:
        done = run_meridian(api_url, *arguments, home=tmp_path)
        return done.returncode, done.stdout or done.stderr

    assert said("pools", "change", "eu-west/spot", "--capacity", "0", "--price", "1.5") == (
        ExitCode.OK,
        "capacity_instances: 0\nprice_usd_per_h: '1.5'\n",
    )
    assert said("reservations", "change", "8f", "--instances", "3") == (ExitCode.OK, "instances: 3\n")
    code, words = said("pools", "change", "eu-west/none", "--capacity", "0")
    assert (code, "known in eu-west: eu-west/spot" in words) == (ExitCode.USAGE, True)
    assert said("pools", "change", "eu-west/spot")[0] == ExitCode.USAGE
    assert said("reservations", "change", "9", "--instances", "3")[0] == ExitCode.NOT_FOUND


def test_advice_on_reservations_is_a_table_with_its_reasons(
    server: Callable[[Answers], str], tmp_path: Path
) -> None:
    """What it rests on stands below; programs get the whole document."""
    row = {"region": "eu-west-1", "instance_type": "p4d.24xlarge", "known_h": 336, "advised_instances": 2,
           "reserved_instances": 1, "price_usd_per_h": "21.24", "reasons": ["by 336 hours of demand"]}  # fmt: skip
    url = server({"/api/v1/reservations/advice": (200, {"items": [row]})})
    told = run_meridian(url, "reservations", "advise", "--price", "21.24", home=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    assert "p4d.24xlarge in eu-west-1: by 336 hours of demand" in told.stdout
    asked = run_meridian(url, "reservations", "advise", "-o", "json", home=tmp_path)
    assert json.loads(asked.stdout) == [row]


def test_limits_of_a_key_are_set_and_taken_away(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """Only what is given is sent; 0 takes a limit away."""
    api_url = server({"/api/v1/api-keys/app": (200, ECHO)})
    changed = run_meridian(api_url, "keys", "limit", "app", "--rpm", "60", "--tpm", "0", home=tmp_path)
    assert (changed.returncode, changed.stderr) == (0, "")
    assert changed.stdout.splitlines() == ["requests_per_minute: 60", "tokens_per_minute: null"]
    changed = run_meridian(api_url, "keys", "limit", "app", "--max-priority", "high", home=tmp_path)
    assert changed.stdout.splitlines() == ["max_priority: high"]


def test_a_dry_run_that_finds_no_place_ends_as_a_check_should(
    server: Callable[[Answers], str], tmp_path: Path
) -> None:
    """So that a pipeline stops there; with every output."""
    (tmp_path / "chat.yaml").write_text("name: chat\n")
    refusal = {
        "rule": "residency",
        "subject": "deployment chat",
        "value": "no pool passes",
        "remedy": "widen residency",
    }
    for refusals, code in (([refusal], ExitCode.FAILED), ([], ExitCode.OK)):
        answer = {
            "deployment": {"name": "chat"},
            "plan": {"allocations": [], "refusals": refusals, "relaxed": [], "usd_per_h": "0.00"},
            "diff": {"deployments": []},
        }
        url = server({"/api/v1/deployments": (200, answer)})
        for output in ("table", "json"):
            done = run_meridian(url, "deploy", "-f", "chat.yaml", "--dry-run", "-o", output, home=tmp_path)
            assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    ("arguments", "path", "answer", "lacks"),
    [
        (
            ("deploy", "--dry-run", "-f", "document.json"),
            "deployments",
            {
                "deployment": {"name": "a"},
                "plan": {"allocations": [], "refusals": [], "relaxed": [], "usd_per_h": "0"},
            },
            "diff",
        ),
        (("plan", "show"), "plans/latest", {"deployments": [], "certificate": {"losses": []}}, "bound"),
        (("clusters", "list"), "clusters", {"clusters": []}, "items"),
    ],
)  # fmt: skip
def test_an_answer_of_another_version_is_one_line(
    server: Callable[[Answers], str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    path: str,
    answer: dict[str, Any],
    lacks: str,
) -> None:
    """A control plane that knows a field not yet: which, where, and what to do."""
    (tmp_path / "document.json").write_text('{"name": "a"}')
    done = run_meridian(server({f"/api/v1/{path}": (200, answer)}), *arguments, home=tmp_path)
    assert done.returncode == ExitCode.FAILED
    assert done.stderr == (
        f"meridian: the answer of /api/v1/{path} has no field {lacks!r}:"
        " what answers may be older than this command; bring both to one version\n"
    )


def test_a_pool_that_is_asked_about_is_sent_with_its_hazard(
    server: Callable[[Answers], str], tmp_path: Path
) -> None:
    """How often it is taken back is for spot; without it nothing is said of it."""
    url = server({"/api/v1/plans/what-if": (200, ECHO)})
    given = (
        "--add-pool",
        "eu-west/a=a100-8x,spot,2,8.60,0.05",
        "--add-pool",
        "eu-west/b=a100-8x,on_demand,1,21",
    )
    done = run_meridian(url, "plan", "what-if", *given, "-o", "json", home=tmp_path)
    assert done.returncode == ExitCode.OK, done.stderr
    spot, on_demand = json.loads(done.stdout)["add_pools"]
    assert (spot["price_usd_per_h"], spot["hazard_per_h"]) == ("8.60", 0.05)
    assert (on_demand["price_usd_per_h"], "hazard_per_h" in on_demand) == ("21", False)
    wrong = run_meridian(url, "plan", "what-if", "--add-pool", "eu/a=b,spot,2,8.60,often", home=tmp_path)
    assert (wrong.returncode, "'often' is not a number" in wrong.stderr) == (ExitCode.USAGE, True)


def test_a_version_is_registered_with_what_it_takes(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """Each ``--takes`` is one word of the document; without one it is text."""
    api_url = server({"/api/v1/models/llama/versions": (201, ECHO)})
    weights = ["--digest", "sha256:0", "--source-uri", "s3://a/b", "--precision", "bf16"]
    sizes = ["--size-bytes", "9", "--max-context-tokens", "512"]
    add = ("models", "add", "llama", "1", *weights, *sizes)
    told = run_meridian(api_url, *add, home=tmp_path)
    assert told.returncode == 0, told.stderr
    assert yaml.safe_load(told.stdout)["modalities"] == ["text"]
    told = run_meridian(api_url, *add, "--takes", "text", "--takes", "image", home=tmp_path)
    assert yaml.safe_load(told.stdout)["modalities"] == ["text", "image"]


def test_an_adapter_is_registered_with_its_version(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """All that the API asks for is sent; a rank that no adapter has is refused before."""
    api_url = server({"/api/v1/models/llama/versions/1/adapters": (201, ECHO)})
    weights = ("--digest", "sha256:0", "--source-uri", "s3://a/b")
    told = run_meridian(
        api_url, "models", "adapt", "llama", "1", "polite", *weights, "--rank", "8", home=tmp_path
    )
    assert told.returncode == 0, told.stderr
    assert yaml.safe_load(told.stdout) == {
        "name": "polite",
        "digest": "sha256:0",
        "source_uri": "s3://a/b",
        "rank": 8,
    }
    told = run_meridian(
        api_url, "models", "adapt", "llama", "1", "polite", *weights, "--rank", "0", home=tmp_path
    )
    assert told.returncode == ExitCode.USAGE


def test_a_remedy_that_says_nothing_is_left_out() -> None:
    """What the API says for want of better only repeats that there is a detail."""
    assert UNSPECIFIC_REMEDY == SAID_BY_THE_API
    error = {"pointer": "/min", "detail": "3 is more than max 1: lower it.", "remedy": UNSPECIFIC_REMEDY}
    told = str(ApiError(400, {"detail": "/min: 3 is more than max 1: lower it.", "errors": [error]}))
    assert told == "/min: 3 is more than max 1: lower it (400)"


def test_a_number_that_is_none_is_one_line(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """JSON has no such number, so nothing is sent."""
    pool = {"id": "1", "cluster": "eu-west", "name": "spot"}
    url = server({"/api/v1/pools": (200, {"items": [pool], "next_cursor": None})})
    done = run_meridian(url, "pools", "change", "eu-west/spot", "--hazard", "nan", home=tmp_path)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr == "meridian: hazard_per_h is not finite; give a finite number\n"


def test_nobody_there_is_one_line(tmp_path: Path) -> None:
    """An address that does not answer is named."""
    done = run_meridian("http://127.0.0.1:9", "deployments", "list", home=tmp_path)
    assert done.returncode == ExitCode.UNREACHABLE
    assert done.stderr.count("\n") == 1
    assert "http://127.0.0.1:9/" in done.stderr


def test_wrong_arguments_are_one_line(tmp_path: Path) -> None:
    """Also what typer itself refuses."""
    done = run_meridian("http://127.0.0.1:9", "deployments", "get", home=tmp_path)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_not_logged_in_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any login the remedy is named."""
    for name in ("MERIDIAN_API_URL", "MERIDIAN_API_KEY", "MERIDIAN_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(layout, "CHECKOUT", tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotLoggedIn, match="meridian login"):
        context.login_find()


def test_environment_wins_over_login_and_login_over_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order in which a command looks for its control plane; the stored key is its owner's alone."""
    for name in ("MERIDIAN_API_URL", "MERIDIAN_API_KEY", "MERIDIAN_INFERENCE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "endpoints.json").write_text(
        '{"api": "http://l", "api_key": "l", "edge": "http://e"}'
    )
    assert context.login_find() == context.Login("http://l", "l", "http://e")
    stored = context.Login("http://s", 'quote"d', "http://i")
    path = context.login_store(stored)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert context.login_find() == stored
    monkeypatch.setenv("MERIDIAN_API_URL", "http://e/")
    monkeypatch.setenv("MERIDIAN_API_KEY", "k")
    assert context.login_find() == context.Login("http://e", "k", None)


def test_the_command_of_a_checkout_finds_its_system_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `make up` prints can be typed anywhere; where MERIDIAN_STATE_DIR names a system, only that one is asked."""
    for name in ("MERIDIAN_API_URL", "MERIDIAN_API_KEY", "MERIDIAN_INFERENCE_URL", "MERIDIAN_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(layout, "CHECKOUT", tmp_path / "checkout")
    (tmp_path / "checkout" / "var").mkdir(parents=True)
    (tmp_path / "checkout" / "var" / "endpoints.json").write_text(
        '{"api": "http://c", "api_key": "c", "edge": "http://e"}'
    )
    monkeypatch.chdir(tmp_path)
    assert context.login_find() == context.Login("http://c", "c", "http://e")
    monkeypatch.setenv("MERIDIAN_STATE_DIR", str(tmp_path / "other"))
    with pytest.raises(NotLoggedIn):
        context.login_find()


def test_a_key_in_the_environment_is_the_one_that_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone it replaces the stored key; an address alone is refused, and never gets the stored key."""
    for name in ("MERIDIAN_API_URL", "MERIDIAN_API_KEY", "MERIDIAN_INFERENCE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    context.login_store(context.Login("http://s", "stored", "http://i"))
    monkeypatch.setenv("MERIDIAN_API_KEY", "k")
    assert context.login_find() == context.Login("http://s", "k", "http://i")
    monkeypatch.delenv("MERIDIAN_API_KEY")
    monkeypatch.setenv("MERIDIAN_API_URL", "http://e")
    with pytest.raises(UsageError, match="MERIDIAN_API_KEY is not"):
        context.login_find()


def test_login_tries_before_it_stores(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """A wrong key is told at once and nothing is kept."""
    refusing = server({"/api/v1/deployments": (401, {"detail": "unknown key"})})
    done = run_meridian(refusing, "login", refusing, home=tmp_path)
    assert done.returncode == ExitCode.NOT_AUTHORISED
    assert not list(tmp_path.rglob("login.toml"))
    accepting = server({"/api/v1/deployments": (200, {"items": [], "next_cursor": None})})
    assert run_meridian(accepting, "login", accepting, home=tmp_path).returncode == 0
    assert list(tmp_path.rglob("login.toml"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "line"),
        ("- 1", "mapping"),
        ("", "mapping"),
        ("a: !!python/object:os.system {}", "YAML"),
        ("a: [{b: .nan}]", "/a/0/b is nan; give a finite number"),
        ("a: 2026-13-45", "holds a value that is none: month must be in 1..12"),
        ("a: {b: 1, c: 2, b: 3}", "at line 1, column 17: 'b' is there twice"),
        ("a: &a [*a]", "its aliases .* write out what is meant"),
        (
            "a: &a0 [x]\n" + "".join(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
            "its aliases .* write out what is meant",
        ),
    ],
)
def test_a_file_that_is_no_document_is_named(tmp_path: Path, text: str, says: str) -> None:
    """Nothing of a bad file reaches the API, and nothing in it is run."""
    path = tmp_path / "d.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        read_document(path)


def test_aliases_repeat_what_they_name(tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    path.write_text("a: &a {b: 1, c: 2}\nd: {<<: *a, c: 3}\ne: [*a, *a]")
    assert read_document(path)["d"] == {"b": 1, "c": 3}
    assert read_document(path)["e"] == [{"b": 1, "c": 2}] * 2


@pytest.mark.parametrize("said", ["1e3", "1E3", "+1.0e+3", "1.e3", "10000e-1", ".1e4"])
def test_numbers_may_have_an_exponent_as_in_json(tmp_path: Path, said: str) -> None:
    path = tmp_path / "d.yaml"
    path.write_text(f"demand: [{{requests_per_s: {said}}}]\nname: '{said}'\nversion: v{said}")
    found = read_document(path)
    assert found == {"demand": [{"requests_per_s": 1000.0}], "name": said, "version": f"v{said}"}
    path.write_text(as_yaml(found))
    assert read_document(path) == found


@pytest.mark.parametrize("text", ["1e", "e3", "1e3x", "1-e3", "1e3.5", "1e-", "12e5-6", "0x1e3z", "1e٣"])
def test_what_only_looks_like_an_exponent_is_a_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "d.yaml"
    path.write_text(f"a: {text}", encoding="utf-8")
    assert read_document(path) == {"a": text}


def test_json_output_is_the_whole_documents(capsys: pytest.CaptureFixture[str]) -> None:
    """`-o json` leaves nothing out, whatever the table shows."""
    rows = [{"id": "1", "more": {"a": None}}]
    print_list(rows, ("id",), Format.JSON, empty="none")
    assert json.loads(capsys.readouterr().out) == rows


def test_a_gateway_error_is_told_in_its_words() -> None:
    """OpenAI's error object is read as well as a problem document."""
    assert str(ApiError(429, {"error": {"message": "slow down"}})) == "slow down (429)"
