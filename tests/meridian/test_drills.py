"""``meridian drill`` as its user sees it, beside a control plane that says what a test tells it to."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meridian.errors import ExitCode
from tests.meridian.stand_in import MERIDIAN, Answers, run_meridian

ID = "8b6a7d0e-0000-4000-8000-000000000001"
BLAST = {
    "clusters": 1,
    "regions": ["eu-west-1"],
    "deployments": [
        {
            "deployment": "chat",
            "replicas": 3,
            "replicas_there": 1,
            "traffic_share": 0.4,
            "verdict": "survives",
        }
    ],
    "others": 2,
}
PROMISE = {
    "basis": "certificate",
    "promised": True,
    "served_share": 1.0,
    "margin_share": 0.5,
    "recovery_s": 25.0,
    "regions": [],
}
RUN = ("drill", "run", "lose-region", "eu-west-1", "--deployment", "chat")


def phase(name: str, **fields: Any) -> dict[str, Any]:
    values = {"phase": name, "requests": 10, "failed_first": 0, "failed": 0, "broken": 0}
    return (
        values
        | {"ttft_s_p50": 0.1, "ttft_s_p99": 0.2, "regions": [{"region": "us-east4", "share": 1.0}]}
        | fields
    )


def drill(state: str, *differences: dict[str, str], because: str = "") -> dict[str, Any]:
    report = {
        "phases": [phase("before"), phase("during", failed_first=1), phase("after")],
        "detected_s": 1.2,
        "moved_s": None,
        "last_failed_s": 0.4,
        "served_share": 1.0,
        "fault_s": 20.0,
        "cost_usd": "0.01",
        "differences": list(differences),
    }
    ended = state in ("passed", "differs", "aborted")
    return {
        "id": ID,
        "kind": "lose-region",
        "target": "eu-west-1",
        "deployment": "chat",
        "state": state,
        "because": because,
        "plan_generation": 7,
        "blast": BLAST,
        "promise": PROMISE,
        "report": report if ended else None,
    }


def answers(**steps: dict[str, Any]) -> Answers:
    """A control plane and a gateway in one."""
    told = {
        "preview": {"plan_generation": 7, "blast": BLAST, "promise": PROMISE, "refusals": []},
        f"{ID}/inject": drill("during"),
        f"{ID}/samples": drill("during"),
        f"{ID}/repair": drill("after"),
        f"{ID}/abort": drill("aborted", because="by you"),
        ID: drill("after"),
    } | {f"{ID}/{name}": document for name, document in steps.items()}
    here = {f"/api/v1/drills/{name}": (200, document) for name, document in told.items()}
    regions = {"regions": [{"region": "eu-west-1", "state": "healthy", "url": None}]}
    return {
        **here,
        "/api/v1/drills": (201, drill("before")),
        "/.well-known/meridian/regions": (200, regions),
        "/v1/chat/completions": (200, {"choices": []}),
    }


def run_drill(url: str, *more: str, home: Path) -> subprocess.CompletedProcess[str]:
    quick = ("--before", "1", "--for", "1", "--settle", "1", "--rate", "5")
    return subprocess.run(
        [MERIDIAN, *RUN, *quick, *more],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        timeout=60,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
            "MERIDIAN_API_URL": url,
            "MERIDIAN_API_KEY": "mrd_test",
            "MERIDIAN_INFERENCE_URL": url,
            "XDG_CONFIG_HOME": str(home),
        },
    )


def test_what_it_touches_is_said_before_and_what_it_showed_afterwards(
    server: Callable[[Answers], str], tmp_path: Path
) -> None:
    """The statement first, a line for each phase, the table, and the verdict."""
    url = server(answers(report=drill("passed")))
    done = run_drill(url, home=tmp_path)
    assert done.returncode == ExitCode.OK, done.stderr
    first, *rest = done.stdout.splitlines()
    assert (
        first == "lose-region eu-west-1 for 1 s: routing tables keep traffic away, as far as others have room"
    )
    said = "\n".join(rest)
    assert "chat: 1 of 3 replicas there, 40 % of its traffic; it survives that" in said
    assert "and 2 deployments of other projects" in said
    assert "plan 7 certifies 100 % of the demand served, +50 % to spare, replacement in 25 s" in said
    for line in ("measuring as it is", "the fault has begun", "all is put back; measuring its return"):
        assert line in said
    assert said.endswith(
        "lose-region eu-west-1: ejected after 1.2 s, last new request that failed at first after 0.4 s, 100.0 % "
        "answered in 20 s, served there: none, idle rent $0.01. As promised by plan 7."
    )
    as_json = run_drill(url, "-o", "json", home=tmp_path)
    assert json.loads(as_json.stdout)["state"] == "passed"


def test_what_differs_or_was_aborted_is_a_failure_that_a_script_sees(
    server: Callable[[Answers], str], tmp_path: Path
) -> None:
    """With the reason in one line."""
    difference = {
        "rule": "recovery",
        "promised": "no new request fails after 3.0 s",
        "measured": "one failed after 9 s",
    }
    differs = run_drill(server(answers(report=drill("differs", difference))), home=tmp_path)
    assert differs.returncode == ExitCode.FAILED
    assert "no new request fails after 3.0 s, but one failed after 9 s" in differs.stderr
    stopped = drill("aborted", because="error_budget: 3 of 9 requests failed")
    aborted = run_drill(server(answers(samples=stopped)), home=tmp_path)
    assert aborted.returncode == ExitCode.FAILED
    assert "was aborted: error_budget: 3 of 9 requests failed; all is put back" in aborted.stderr


def test_a_check_touches_nothing(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """And says why it would be refused."""
    refusal = {
        "rule": "survivability",
        "subject": "deployment chat",
        "value": "would be served for 0 %",
        "remedy": "x",
    }
    preview = {"plan_generation": 7, "blast": BLAST, "promise": PROMISE, "refusals": [refusal]}
    url = server({"/api/v1/drills/preview": (200, preview)})
    checked = run_meridian(url, *RUN, "--check", home=tmp_path)
    assert checked.returncode == ExitCode.OK, checked.stderr
    assert "refused without --accept-risk: deployment chat would be served for 0 %" in checked.stdout


def test_the_beginning_of_an_id_is_enough(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """As tables show it; one that several have, or none, is said to be so."""
    other = drill("passed") | {"id": f"{ID[:4]}{ID[4:].replace(ID[5], 'f')}"}
    found = {"items": [drill("passed"), other], "next_cursor": None}
    url = server({"/api/v1/drills": (200, found), f"/api/v1/drills/{ID}": (200, drill("passed"))})
    assert "As promised by plan 7" in run_meridian(url, "drill", "show", ID[:8], home=tmp_path).stdout
    several = run_meridian(url, "drill", "abort", ID[:4], home=tmp_path)
    assert several.returncode == ExitCode.USAGE
    assert f"several ids of drills begin with {ID[:4]}" in several.stderr
    assert run_meridian(url, "drill", "show", "ffff", home=tmp_path).returncode == ExitCode.NOT_FOUND


def test_schedules_are_made_and_ended(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """With the command that ends them."""
    made = {"id": ID, "next_at": "2030-01-01T03:30:00Z"}
    url = server({"/api/v1/drill-schedules": (201, made), f"/api/v1/drill-schedules/{ID}": (200, {})})
    scheduled = run_meridian(url, "drill", "schedule", *RUN[2:], "--every-days", "30", home=tmp_path)
    assert f"`meridian drill unschedule {ID}` ends it" in scheduled.stdout
    assert run_meridian(url, "drill", "unschedule", ID, home=tmp_path).returncode == ExitCode.OK


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*RUN, "--by", "faults"), "faults need the system that `meridian up` runs on this machine"),
        ((*RUN, "--freeze"), "--freeze is for a region or provider that is lost by faults"),
        (("drill", "run", "burn-region", "x", "-d", "chat"), "burn-region"),
    ],
)
def test_wrong_words_are_usage(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """Nothing is asked of anybody."""
    done = run_meridian("http://127.0.0.1:9", *arguments, home=tmp_path)
    assert done.returncode == ExitCode.USAGE
    assert said in done.stderr
