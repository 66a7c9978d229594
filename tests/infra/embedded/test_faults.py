"""What is broken on purpose is mended: when somebody says so, by itself, and after whoever broke it was killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout
from infra.embedded.supervisor_client import SupervisorClient
from tests.infra.embedded.conftest import stand_in
from tests.support.waiting import eventually
from workloadplane.runtimes.processes import marks

REGION = ("agent-eu-west", "gateway-eu-west")


@pytest.fixture
def replica(layout: Layout) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is marked as a replica of the region, in a session of its own."""
    directory = layout.plane("eu-west") / "agent"
    directory.mkdir(parents=True)
    made = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()"],
        env={**os.environ, **marks(directory, "r-1")},
        start_new_session=True,
    )
    yield made
    made.send_signal(signal.SIGCONT)
    made.kill()
    made.wait()


@pytest.fixture
def region(layout: Layout, client: SupervisorClient) -> SupervisorClient:
    """Its two parts, and one of another region."""
    names = (*REGION, "agent-us-east", "gateway-us-east")
    client.start([stand_in(layout, name) for name in names])
    eventually(lambda: all("started" in layout.log(name).read_text() for name in names), what="all run")
    return client


def pids(client: SupervisorClient) -> dict[str, int | None]:
    return {part.name: part.pid for part in client.status() if part.name in REGION}


def is_stopped(pid: int | None) -> bool:
    return pid is not None and psutil.Process(pid).status() == psutil.STATUS_STOPPED


def is_fault_noted(layout: Layout) -> bool:
    return (Path(layout.run) / "fault.json").exists()


def test_a_killed_region_stays_away_until_it_is_mended(
    layout: Layout, region: SupervisorClient, replica: subprocess.Popen[bytes]
) -> None:
    """Its parts and replicas are gone and not started again; the other region never notices."""
    before = {part.name: part.pid for part in region.status()}
    region.break_on_purpose("kill", ["eu-west"], 60)
    assert replica.wait(10) == -signal.SIGKILL
    eventually(lambda: pids(region) == dict.fromkeys(REGION), what="both are gone")
    with pytest.raises(EmbeddedError, match="broken already"):
        region.break_on_purpose("freeze", ["us-east"], 60)
    assert region.mend()
    eventually(lambda: all(pids(region).values()), what="both run again")
    after = {part.name: part.pid for part in region.status()}
    assert after["gateway-us-east"] == before["gateway-us-east"]
    assert not is_fault_noted(layout)
    assert not region.mend(), "nothing is broken any more"


def test_a_frozen_region_goes_on_by_itself_when_its_time_is_over(
    layout: Layout, region: SupervisorClient, replica: subprocess.Popen[bytes]
) -> None:
    """Whoever froze it may be dead by then; nobody got another process."""
    before = pids(region)
    region.break_on_purpose("freeze", ["eu-west"], 3)
    eventually(lambda: all(map(is_stopped, [*pids(region).values(), replica.pid])), what="all are frozen")
    eventually(lambda: not any(map(is_stopped, [*pids(region).values(), replica.pid])), what="all go on")
    assert pids(region) == before
    eventually(lambda: not is_fault_noted(layout))


def test_the_next_supervisor_mends_what_a_killed_one_left(layout: Layout, region: SupervisorClient) -> None:
    """Also parts that were not alive when it began."""
    region.break_on_purpose("kill", ["eu-west"], 60)
    eventually(lambda: pids(region) == dict.fromkeys(REGION), what="both are gone")
    supervisor = region.identity()
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    eventually(lambda: not supervisor.is_alive())
    region.ensure_running()
    eventually(lambda: len(pids(region)) == 2 and all(pids(region).values()), what="both run again")
    assert not is_fault_noted(layout)


def test_slow_replicas_run_in_turns_and_go_on_afterwards(
    region: SupervisorClient, replica: subprocess.Popen[bytes]
) -> None:
    """Nothing else of the region is touched."""
    region.break_on_purpose("slow", ["eu-west"], 60)
    eventually(lambda: is_stopped(replica.pid), what="it is stopped now and then")
    eventually(lambda: not is_stopped(replica.pid), what="and runs now and then")
    assert not any(map(is_stopped, pids(region).values()))
    region.mend()
    assert not is_stopped(replica.pid)


def test_what_cannot_be_broken_is_said(region: SupervisorClient) -> None:
    """And nothing is touched."""
    for kind, clusters, for_s, said in (
        ("kill", ["mars"], 1.0, "no part agent-mars, gateway-mars"),
        ("kill", [], 1.0, "no part is named"),
        ("burn", ["eu-west"], 1.0, "give one of kill, freeze, slow, control"),
        ("kill", ["eu-west"], 9e9, "3600 s at most"),
        ("control", [], 1.0, "no part beat, postgres, valkey, web, worker"),
    ):
        with pytest.raises(EmbeddedError, match=said):
            region.break_on_purpose(kind, clusters, for_s)
    assert not any(map(is_stopped, pids(region).values()))
