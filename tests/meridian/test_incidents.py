"""`meridian incidents`, `regions` and `webhooks`: what they print, and how they end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meridian.cli.incidents import open_said
from meridian.client import Client
from meridian.errors import ExitCode
from tests.meridian.stand_in import Answers, run_meridian

ID = "8b6a7d0e-0000-4000-8000-000000000001"
HOOK = {
    "id": ID,
    "url": "https://pager.example/hook",
    "created_by": "api_key:ops",
    "created_at": "2030-06-01T12:00:00Z",
}


def incident(**fields: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": ID,
        "kind": "region",
        "name": "us-east4",
        "title": "region us-east4",
        "state": "open",
        "severity": "error",
        "cause": "lost",
        "evidence": "ejected, lost to 3 of 3 observers, 1.4 s ago",
        "opened_at": "2030-06-01T12:00:03Z",
        "resolved_at": None,
        "detected_after_s": 1.62,
        "parent_id": None,
        "drill": None,
        "members": ["region us-east4", "cluster us-east"],
        "deployments": [{"deployment": "chat", "usd_per_h_before": "2.00", "usd_per_h": "4.00"}],
        "other_deployments": 1,
        "extra_usd": "1.25",
        "entries": [
            {
                "event_id": 7,
                "at": "2030-06-01T12:00:03Z",
                "severity": "error",
                "reason": "IncidentOpened",
                "message": "region us-east4: ejected",
            }
        ],
        "moves": [],
    }
    return values | fields


def page(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items), "next_cursor": None}


def test_incidents_are_listed_without_those_told_of_elsewhere(
    server: Callable[[Answers], str], tmp_path: Path
) -> None:
    """One line a cause; programs get all."""
    child = incident(id=ID.replace("1", "2"), parent_id=ID, title="cluster us-east")
    url = server({"/api/v1/incidents": (200, page(incident(), child))})
    listed = run_meridian(url, "incidents", "--open", home=tmp_path)
    assert listed.returncode == ExitCode.OK, listed.stderr
    assert "region us-east4" in listed.stdout
    assert "lost to 3 of 3 observers, 1.4 s ago" in listed.stdout
    assert "cluster us-east" not in listed.stdout
    everything = run_meridian(url, "incidents", "-o", "json", home=tmp_path)
    assert len(json.loads(everything.stdout)) == 2
    wrong = run_meridian(url, "incidents", "--record", home=tmp_path)
    assert (wrong.returncode, "wants the ID" in wrong.stderr) == (ExitCode.USAGE, True)


def test_status_names_what_is_open_and_no_part_of_another(server: Callable[[Answers], str]) -> None:
    """One line each, with the command that tells more."""
    child = incident(id=ID.replace("1", "2"), parent_id=ID, title="cluster us-east")
    drilled = incident(title="cluster eu-west", drill={"id": ID, "title": "lose-region eu-west-1"})
    with Client(server({"/api/v1/incidents": (200, page(incident(), child, drilled))}), "mrd_test") as client:
        line, second = open_said(client)
    assert "; brought about by drill lose-region eu-west-1 (`meridian" in second
    assert line.startswith("error: region us-east4 is open, ejected, lost to 3 of 3 observers")
    assert "`meridian incidents 8b6a7d0e`" in line


def test_one_incident_tells_its_time_line_and_its_record(
    server: Callable[[Answers], str], tmp_path: Path
) -> None:
    """Who saw it how soon, whom it touched, what happened; the record as it was written."""
    url = server(
        {
            "/api/v1/incidents/8b6a7d0e": (
                200,
                incident(state="resolved", resolved_at="2030-06-01T12:09:00Z"),
            ),
            "/api/v1/incidents/8b6a7d0e/record": (200, {"markdown": "# Incident: region us-east4\n"}),
        }
    )
    shown = run_meridian(url, "incidents", "8b6a7d0e", home=tmp_path).stdout
    assert "found 1.6 s after its last sign of life" in shown
    assert "touched: chat, 1 of other projects; 1.25 USD more" in shown
    assert "IncidentOpened" in shown
    record = run_meridian(url, "incidents", "8b6a7d0e", "--record", home=tmp_path)
    assert record.stdout == "# Incident: region us-east4\n"


def test_regions_tell_their_state_with_its_evidence(server: Callable[[Answers], str], tmp_path: Path) -> None:
    """Regions and clusters, unless other kinds are asked for."""
    places = [
        {"kind": kind, "name": name, "within": None, "state": "ejected", "health": "failing", "incident_id": ID,
         "evidence": "ejected, lost to 3 of 3 observers, 1.4 s ago"}
        for kind, name in (("provider", "gcp"), ("region", "us-east4"), ("cluster", "us-east"))
    ]  # fmt: skip
    url = server({"/api/v1/places": (200, page(*places))})
    shown = run_meridian(url, "regions", home=tmp_path).stdout
    assert shown.count("lost to 3 of 3 observers, 1.4 s ago") == 2
    assert "gcp" not in shown
    assert "gcp" in run_meridian(url, "regions", "--kind", "provider", home=tmp_path).stdout


def test_a_webhooks_secret_is_shown_once_and_its_test_tells_what_came_of_it(
    server: Callable[[Answers], str], tmp_path: Path
) -> None:
    """Delivered, or not: then with the reason and an exit code that a script sees."""
    delivery = {"id": "d", "type": "webhook.test", "attempts": 1, "created_at": "", "next_at": ""}
    path = f"/api/v1/webhooks/{ID}"
    answers: dict[str, tuple[int, Any]] = {
        "/api/v1/webhooks": (200, page(HOOK)),
        path: (200, HOOK),
        f"{path}/test": (202, delivery | {"state": "waiting", "answer": ""}),
        f"{path}/deliveries": (200, page(delivery | {"state": "delivered", "answer": "204"})),
    }
    url = server(answers)
    tried = run_meridian(url, "webhooks", "test", "8b6a", home=tmp_path)
    assert (tried.returncode, tried.stdout) == (ExitCode.OK, "https://pager.example/hook answered 204\n")
    assert "delivered" in run_meridian(url, "webhooks", "log", "8b6a", home=tmp_path).stdout
    assert run_meridian(url, "webhooks", "test", "ffff", home=tmp_path).returncode == ExitCode.NOT_FOUND
    failing = server(
        answers | {f"{path}/deliveries": (200, page(delivery | {"state": "waiting", "answer": "503"}))}
    )
    failed = run_meridian(failing, "webhooks", "test", "8b6a", home=tmp_path)
    assert failed.returncode == ExitCode.FAILED
    assert "was not told: 503; it is tried again" in failed.stderr
    created = server({"/api/v1/webhooks": (201, HOOK | {"secret": "whsec_c2VjcmV0", "note": None})})
    added = run_meridian(created, "webhooks", "add", HOOK["url"], home=tmp_path)
    assert added.stdout == "whsec_c2VjcmV0\n"
