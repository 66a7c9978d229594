"""The two verbs of the README on a state folder of their own, with simulators for engines."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.embedded import record
from infra.embedded.layout import CHECKOUT, STATE_DIR_VARIABLE, Layout, read_json
from infra.embedded.parts import NAMES
from infra.embedded.processes import ProcessIdentity, marked
from infra.embedded.supervisor_client import SupervisorClient
from tests.support.state_folder import state_folder
from tests.support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

#: Of the example deployment: one in each of three regions.
REPLICAS = 3


def meridian(layout: Layout, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, from the checkout."""
    return subprocess.run(
        [sys.executable, "-c", "from meridian.cli import main; main()", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, STATE_DIR_VARIABLE: str(layout.state)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def layout() -> Iterator[Layout]:
    with state_folder("a state") as state:
        made = Layout(state=state)
        done = meridian(made, "up", "--engine", "simulator")
        try:
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Meridian is up." in done.stdout
            yield made
        finally:
            meridian(made, "down")


def _pids(layout: Layout) -> dict[str, int]:
    pids: dict[str, int] = read_json(layout.endpoints)["pids"]
    return pids


def _chat(endpoints: dict[str, Any], base: str) -> httpx.Response:
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    headers = {"Authorization": f"Bearer {endpoints['api_key']}"}
    return httpx.post(f"{base}/v1/chat/completions", json=body, headers=headers, timeout=30)


def test_all_that_scripts_need_is_in_one_private_file(layout: Layout) -> None:
    """Addresses without a path, the key, the login, and a living pid for every part."""
    assert layout.endpoints.stat().st_mode & 0o777 == 0o600
    endpoints = read_json(layout.endpoints)
    assert endpoints["pids"].keys() == NAMES
    assert all(ProcessIdentity.of(pid) for pid in endpoints["pids"].values())
    assert len(endpoints["gateways"]) == 3
    for url in (endpoints["console"], endpoints["api"], endpoints["edge"], *endpoints["gateways"].values()):
        assert httpx.URL(url).path == "/"
    assert endpoints["admin_user"] and endpoints["admin_password"]
    assert _chat(endpoints, endpoints["edge"]).status_code == 200
    assert all(_chat(endpoints, url).status_code == 200 for url in endpoints["gateways"].values())


def test_the_first_start_is_told_without_a_warning(layout: Layout) -> None:
    """A system that comes up as it should has no event that somebody must look at, and counts no refusals."""
    endpoints = read_json(layout.endpoints)
    told = list(reversed(_events(endpoints)))
    begun = told[: 1 + [event["reason"] for event in told].index("Ready")]
    assert [event["reason"] for event in begun[:1]] == ["Accepted"]
    assert {event["severity"] for event in begun} == {"info"}, begun
    for url in endpoints["gateways"].values():
        assert "meridian_gateway_tables_refused_total{" not in httpx.get(f"{url}/metrics").text


def test_it_says_where_the_time_went(layout: Layout) -> None:
    """The phases are written down, and from the first to the last they leave no second unexplained."""
    timings = read_json(layout.timings)
    assert {"PostgreSQL", "migrations", "example world", "first chat"} <= {
        phase["phase"] for phase in timings["phases"]
    }
    explained = 0.0
    for phase in sorted(timings["phases"], key=lambda phase: phase["began_s"]):
        assert phase["began_s"] <= explained + 1, phase
        explained = max(explained, phase["began_s"] + phase["took_s"])
    assert explained == pytest.approx(timings["total_s"], abs=1)


def test_no_secret_is_in_a_log_or_readable_by_others(layout: Layout) -> None:
    """The key, the passwords and the tokens lie in private files, and in no log."""
    endpoints = read_json(layout.endpoints)
    secrets = [endpoints["api_key"], endpoints["admin_password"]]
    secrets += [path.read_text().strip() for path in layout.postgres.glob("*.password")]
    secrets += [(layout.valkey / "password").read_text().strip()]
    for log in layout.logs.iterdir():
        assert not [secret for secret in secrets if secret in log.read_text(errors="replace")], log.name
    for path in (*layout.control.iterdir(), *layout.logs.iterdir(), layout.parts, layout.instance):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0, path


def test_a_second_up_notices_that_it_is_up(layout: Layout) -> None:
    """Nothing is started twice or replaced."""
    before = _pids(layout)
    done = meridian(layout, "up")
    assert done.returncode == 0, done.stderr
    assert "Meridian is up already." in done.stdout
    assert _pids(layout) == before


def test_a_part_that_is_killed_comes_back_and_status_shows_it(layout: Layout) -> None:
    """Restarted with a new pid, which the file for scripts has too."""
    before = _pids(layout)
    os.kill(before["edge"], signal.SIGKILL)
    eventually(lambda: _pids(layout).get("edge", before["edge"]) != before["edge"], within_s=15)
    endpoints = read_json(layout.endpoints)
    eventually(lambda: _answers(endpoints))

    done = meridian(layout, "status", "-o", "json")
    assert done.returncode == 0, done.stderr
    parts = {part["part"]: part for part in json.loads(done.stdout)}
    assert parts.keys() == NAMES
    assert parts["edge"]["restarts"] == 1
    assert parts["edge"]["last_exit"] == "killed by SIGKILL"
    assert parts["web"]["restarts"] == 0


def test_up_adopts_what_a_killed_supervisor_left(layout: Layout) -> None:
    """No part is restarted for its supervisor's sake."""
    before = _pids(layout)
    supervisor = SupervisorClient(layout).identity()
    assert supervisor is not None
    supervisor.send(signal.SIGKILL)
    eventually(lambda: not supervisor.is_alive())
    assert meridian(layout, "status").returncode == 6
    done = meridian(layout, "up")
    assert done.returncode == 0, done.stderr
    assert _pids(layout) == before
    assert meridian(layout, "status").returncode == 0


def test_down_ends_all_that_was_started_and_nothing_else(layout: Layout, tmp_path: Path) -> None:
    """No process with this folder's mark is left, replicas included, and the state stays for the next start."""
    instance = layout.instance.read_text().strip()
    assert len(list(marked(instance))) > len(NAMES)
    eventually(lambda: _ready(read_json(layout.endpoints)) == REPLICAS)
    last = max(event["id"] for event in _events(read_json(layout.endpoints)))
    bystander = subprocess.Popen(["sleep", "600"], cwd=tmp_path)
    try:
        done = meridian(layout, "down")
        assert done.returncode == 0, done.stderr
        assert "left-over" not in done.stdout
        assert "killed" not in done.stdout
        assert list(marked(instance)) == []
        assert record.alive(layout) == {}
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()

    done = meridian(layout, "up", "--engine", "simulator")
    assert done.returncode == 0, done.stderr
    endpoints = read_json(layout.endpoints)
    assert _chat(endpoints, endpoints["edge"]).status_code == 200

    def stopped() -> list[str]:
        """What was said of the stopped ones so far: each cluster's agent tells of its own when it calls."""
        since = [event for event in _events(endpoints) if event["id"] > last]
        assert {event["severity"] for event in since} == {"info"}, since
        return [event["message"] for event in since if event["reason"] == "ReplicaStopped"]

    eventually(lambda: len(stopped()) == REPLICAS)
    assert all("all replicas of its cluster were told to stop" in message for message in stopped())


def _ready(endpoints: dict[str, Any]) -> int:
    """How many of the example's replicas the control plane takes for ready."""
    headers = {"Authorization": f"Bearer {endpoints['api_key']}"}
    url = f"{endpoints['api']}/api/v1/deployments/chat/replicas"
    replicas = httpx.get(url, headers=headers, timeout=10).json()["items"]
    return sum(replica["state"] == "ready" for replica in replicas)


def _events(endpoints: dict[str, Any]) -> list[dict[str, Any]]:
    """The example's, the newest first."""
    headers = {"Authorization": f"Bearer {endpoints['api_key']}"}
    url = f"{endpoints['api']}/api/v1/deployments/chat/events?limit=100"
    events: list[dict[str, Any]] = httpx.get(url, headers=headers, timeout=10).json()["items"]
    return events


def _answers(endpoints: dict[str, Any]) -> bool:
    try:
        return _chat(endpoints, endpoints["edge"]).status_code == 200
    except httpx.HTTPError:
        return False
