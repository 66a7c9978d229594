"""`meridian plan`: against the API itself, with the exit code that a check in CI needs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_django.live_server_helper import LiveServer

from apps.accounts.services import api_key_create
from apps.api.actors import system_actor
from apps.deployments.services import deployment_create
from apps.placements.models import PlacementPlan
from apps.placements.services import placements_solve
from meridian.errors import ExitCode
from tests.support.fleet_world import FleetWorld, fleet_world

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

MERIDIAN = Path(sys.executable).with_name("meridian")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def world() -> FleetWorld:
    made = fleet_world()
    deployment_create(actor=made.actor, document=made.document())
    placements_solve(organization_id=made.organization.pk)
    survivor = made.document("survivor", survivability="region", residency=["eu", "us"])
    deployment_create(actor=made.actor, document=survivor | {"autoscaling": {"max_replicas": 2}})
    nowhere = made.document("nowhere", providers_denied=["aws", "azure", "gcp"])
    deployment_create(actor=made.actor, document=nowhere)
    placements_solve(organization_id=made.organization.pk)
    return made


@pytest.fixture
def plan(world: FleetWorld, live_server: LiveServer, tmp_path: Path) -> Run:
    """Runs ``meridian plan …`` with a key that may only read."""
    actor = system_actor("tests", organization_id=world.organization.pk, project_id=world.project.pk)
    key = api_key_create(actor=actor, project_id=world.project.pk, name="reader", scopes=["read"])[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
        "MERIDIAN_API_URL": live_server.url,
        "MERIDIAN_API_KEY": key,
        "XDG_CONFIG_HOME": str(tmp_path),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [MERIDIAN, "plan", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=tmp_path,
            timeout=60,
        )

    return run


def test_a_plan_is_shown_listed_and_explained(plan: Run) -> None:
    """Who runs where, what is not placed and why; every pool of one deployment; the whole document as JSON."""
    shown = plan("show")
    assert shown.returncode == ExitCode.OK, shown.stderr
    assert "1 on demand in us-east" in shown.stdout
    assert "not placed  nowhere: provider" in shown.stdout
    assert "plan 2: 4.00 USD per hour for this project" in shown.stdout
    listed = json.loads(plan("list", "-o", "json").stdout)
    assert [row["plan_generation"] for row in listed] == [2, 1]
    told = plan("explain", "survivor")
    assert "planned for no known demand; 1 to 2 replicas; the loss of any region" in told.stdout
    assert "ap-northeast/on-demand" in told.stdout
    assert "residency: jurisdiction jp" in told.stdout
    assert "region us-east4" in told.stdout
    whole = json.loads(plan("show", "2", "-o", "json").stdout)
    assert [entry["name"] for entry in whole["deployments"]] == ["chat", "nowhere", "survivor"]
    assert "next_cursor" not in whole


def test_survive_is_a_check_for_ci(plan: Run) -> None:
    """0 where all is served, 1 where not; with --promised only promises count; the verdict is told either way."""
    fails = plan("survive", "--lose", "region:us-east4")
    assert fails.returncode == ExitCode.FAILED
    assert "does not survive losing region:us-east4" in fails.stdout
    assert "of the demand is served, 1 deployment falls short" in fails.stdout
    assert fails.stderr == ""
    kept = plan("survive", "--lose", "region:us-east4", "--promised", "-o", "json")
    assert kept.returncode == ExitCode.OK
    assert json.loads(kept.stdout)["keeps_promises"] is True
    holds = plan("survive", "--lose", "pool:ap-northeast/on-demand")
    assert (holds.returncode, "survives losing" in holds.stdout) == (ExitCode.OK, True)


def test_a_diff_and_a_what_if_tell_moves_and_money(plan: Run) -> None:
    """And a question changes nothing."""
    made = plan("diff")
    assert made.returncode == ExitCode.OK, made.stderr
    assert "1 starts on eu-west/on-demand" in made.stdout
    assert "1.00 → 4.00 USD per hour for this project (+3.00)" in made.stdout
    assert json.loads(plan("diff", "1", "2", "-o", "json").stdout)["after"]["plan_generation"] == 2
    asked = plan(
        "what-if",
        *("--lose", "region:us-east4", "--price", "eu-west/on-demand=0.50"),
        *("--capacity", "eu-west/on-demand=9", "--max", "chat=2", "--survivability", "chat=none"),
    )
    assert asked.returncode == ExitCode.OK, asked.stderr
    assert "1 moves from us-east/on-demand to eu-west/on-demand" in asked.stdout
    assert re.search(
        r"solved in [0-9.]+ s, by search; nothing that keeps as much is cheaper\nnothing was changed\n$",
        asked.stdout,
    )
    assert PlacementPlan.objects.count() == 2


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("explain", "nobody"), ExitCode.NOT_FOUND, "no deployment 'nobody' here"),
        (("show", "99"), ExitCode.NOT_FOUND, "no plan '99' here"),
        (("survive", "--lose", "region:mars"), ExitCode.FAILED, "there is no region mars; known are"),
        (("survive", "--lose", "mars"), ExitCode.FAILED, "KIND:NAME is wanted"),
        (("survive",), ExitCode.USAGE, "Missing option '--lose'"),
        (("what-if",), ExitCode.USAGE, "nothing would be otherwise"),
        (("what-if", "--price", "eu-west"), ExitCode.USAGE, "give it as POOL=USD"),
        (("what-if", "--price", "eu-west/on-demand=cheap"), ExitCode.FAILED, "/prices/0/price_usd_per_h 'cheap'"),
        (("what-if", "--capacity", "eu-west/on-demand=many"), ExitCode.USAGE, "'many' is no whole number"),
        (("what-if", "--demand", "nan"), ExitCode.USAGE, "'nan' is no finite number"),
        (("what-if", "--demand", "chat=1e400"), ExitCode.USAGE, "'1e400' is no finite number"),
        (("what-if", "--add-pool", "eu-west=h100-1x"), ExitCode.USAGE, "such as eu-west/more="),
        (("diff", "2", "2"), ExitCode.FAILED, "is the same plan"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(plan: Run, arguments: tuple[str, ...], code: ExitCode, says: str) -> None:
    """Never a traceback; nothing on standard output."""
    done = plan(*arguments)
    assert (done.returncode, done.stdout) == (code, ""), done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert says in done.stderr
