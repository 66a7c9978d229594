"""`meridian drain`, `undrain` and `drains`: what they print, what they refuse, and how they wait."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meridian.errors import ExitCode
from tests.meridian.stand_in import Answers, run_meridian

ID = "8b6a7d0e-0000-4000-8000-000000000001"
IDLE = {"replicas": 2, "here": 2, "gone": 0, "deployments": [], "eta_s": 12.4}


def drain(state: str, **fields: Any) -> dict[str, Any]:
    values = {
        "id": ID,
        "kind": "cluster",
        "name": "us-east",
        "state": state,
        "reason": "",
        "starts_at": None,
        "ends_at": None,
        "begins_at": None,
        "created_by": "api_key:test",
        "progress": IDLE,
    }
    return values | fields


def page(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items), "next_cursor": None}


def test_a_drain_says_where_it_is_and_what_ends_it(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """At once, and after waiting for the end."""
    empty = drain("drained", progress=IDLE | {"here": 0, "gone": 2, "eta_s": 0.0})
    url = server({"/api/v1/drains": (201, drain("moving")), f"/api/v1/drains/{ID}": (200, empty)})
    ordered = run_meridian(url, "drain", "cluster", "us-east", home=tmp_path)
    assert ordered.returncode == ExitCode.OK, ordered.stderr
    assert ordered.stdout.strip() == (
        "cluster us-east is moving: 0 of 2 replicas gone, about 12 s left;"
        " `meridian undrain cluster us-east` opens it again"
    )
    waited = run_meridian(url, "drain", "cluster", "us-east", "--wait", home=tmp_path)
    assert waited.stdout.strip().endswith(
        "cluster us-east is empty; `meridian undrain cluster us-east` opens it again"
    )
    shown = run_meridian(url, "drain", "cluster", "us-east", "-o", "json", home=tmp_path)
    assert json.loads(shown.stdout)["id"] == ID


def test_one_that_is_lifted_meanwhile_ends_the_waiting(
    server: Callable[[Answers], str], tmp_path: Path
) -> None:
    """With an exit code that a script sees."""
    url = server(
        {"/api/v1/drains": (201, drain("moving")), f"/api/v1/drains/{ID}": (200, drain("cancelled"))}
    )
    waited = run_meridian(url, "drain", "cluster", "us-east", "--wait", home=tmp_path)
    assert waited.returncode == ExitCode.FAILED
    assert "cluster us-east is open again (cancelled); nothing more moves" in waited.stderr


def test_a_refusal_is_one_line_and_names_the_option(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """As the API says it; `--check` says the same without asking for it."""
    said = "refused: would leave chat under N+1 in jurisdiction eu; set accept_risk (--accept-risk) to go on"
    short = {
        "rule": "survivability",
        "subject": "deployment chat",
        "value": "under N+1 in jurisdiction eu",
        "remedy": "add one",
    }
    kept = {"deployment": "chat", "jurisdiction": "eu", "replicas_now": 4, "replicas_after": 2}
    preview = {"replicas": 2, "expected_s": None, "kept": [kept], "shortfalls": [short]}
    url = server({"/api/v1/drains": (422, {"detail": said}), "/api/v1/drains/preview": (200, preview)})
    refused = run_meridian(url, "drain", "cluster", "us-east", home=tmp_path)
    assert (refused.returncode, refused.stderr.strip()) == (ExitCode.FAILED, f"meridian: {said} (422)")
    checked = run_meridian(url, "drain", "cluster", "us-east", "--check", home=tmp_path)
    assert checked.returncode == ExitCode.FAILED
    assert "2 replicas to move, in an unknown time" in checked.stdout
    assert "would leave deployment chat under N+1 in jurisdiction eu (add one)" in checked.stderr


def test_undrain_finds_what_is_open(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """The one in force; none is said; of several windows one has to be named."""
    lift = {f"/api/v1/drains/{ID}/lift": (200, drain("over"))}
    window = drain("planned", id="8b6a7d0e-0000-4000-8000-000000000002", starts_at="2030-01-01T00:00:00Z")
    url = server({"/api/v1/drains": (200, page(window, drain("drained"))), **lift})
    lifted = run_meridian(url, "undrain", "cluster", "us-east", home=tmp_path)
    assert lifted.stdout.strip() == "cluster us-east is open again (over)"
    none = run_meridian(
        server({"/api/v1/drains": (200, page())}), "undrain", "cluster", "us-east", home=tmp_path
    )
    assert none.returncode == ExitCode.NOT_FOUND
    assert "no drain of cluster us-east is open" in none.stderr
    several = server({"/api/v1/drains": (200, page(window, window))})
    assert run_meridian(several, "undrain", "cluster", "us-east", home=tmp_path).returncode == ExitCode.USAGE


@pytest.mark.parametrize(
    "arguments",
    [
        ("drain", "planet", "mars"),
        ("drain", "cluster", "us-east", "--from", "tomorrow"),
        ("undrain", "cluster"),
    ],
)
def test_wrong_words_are_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Nothing is asked of anybody."""
    assert run_meridian("http://127.0.0.1:9", *arguments, home=tmp_path).returncode == ExitCode.USAGE
