import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from infra.embedded import parts, probe, record
from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout, read_json
from infra.embedded.parts import World
from infra.embedded.ports import HOST
from infra.embedded.processes import ProcessIdentity
from infra.embedded.supervisor import pause_s, rotate
from infra.embedded.supervisor_client import PartStatus, SupervisorClient
from infra.embedded.take_down import down, reset
from tests.infra.embedded.conftest import stand_in
from tests.support.waiting import eventually


def _part(client: SupervisorClient, name: str) -> PartStatus:
    return next(part for part in client.status() if part.name == name)


def _started(layout: Layout, name: str) -> bool:
    return "started" in layout.log(name).read_text()


def _kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def _supervisor(client: SupervisorClient) -> ProcessIdentity:
    identity = client.identity()
    assert identity is not None
    return identity


def test_a_part_that_dies_is_restarted_and_its_new_pid_is_published(
    layout: Layout, client: SupervisorClient
) -> None:
    """A killed part comes back, its restart is counted, and ``endpoints.json`` follows."""
    client.start([stand_in(layout, "web")])
    client.publish({"api": "http://127.0.0.1:1"})
    first = _part(client, "web").pid
    assert read_json(layout.endpoints)["pids"] == {"web": first}

    _kill(first)

    part = eventually(lambda: (now := _part(client, "web")).state == "running" and now.restarts == 1 and now)
    assert isinstance(part, PartStatus)
    assert part.pid != first
    assert part.last_exit == "killed by SIGKILL"
    assert read_json(layout.endpoints) == {"api": "http://127.0.0.1:1", "pids": {"web": part.pid}}
    assert layout.endpoints.stat().st_mode & 0o777 == 0o600


def test_a_part_that_keeps_dying_waits_longer_each_time() -> None:
    """The pauses double up to half a minute."""
    assert [pause_s(failures) for failures in (0, 1, 2, 3, 10, 10_000)] == [0.5, 1.0, 2.0, 4.0, 30.0, 30.0]


def test_a_program_that_does_not_exist_is_told_in_its_log(layout: Layout, client: SupervisorClient) -> None:
    """A part that can't even be started says why, and is tried again."""
    client.start([replace(stand_in(layout, "web"), argv=("/no/such/program",))])
    eventually(lambda: _part(client, "web").restarts >= 1)
    assert "could not start /no/such/program" in layout.log("web").read_text()
    assert "No such file" in _part(client, "web").last_exit


def test_an_equal_spec_is_left_alone_and_a_changed_one_is_replaced(
    layout: Layout, client: SupervisorClient
) -> None:
    """``up`` may ask again for what runs; only a part whose command or environment changed restarts."""
    spec = stand_in(layout, "web")
    client.start([spec])
    first = _part(client, "web").pid
    eventually(lambda: _started(layout, "web"))

    client.start([spec])
    assert _part(client, "web").pid == first

    client.start([replace(spec, env={"MERIDIAN_CHANGED": "1"})])
    assert _part(client, "web").pid != first
    assert (layout.state / "web.ended").exists()


def test_a_killed_supervisor_stops_no_part_and_the_next_one_adopts_them(
    layout: Layout, client: SupervisorClient
) -> None:
    """The parts outlive their supervisor; its successor knows them, and restarts one that dies later."""
    client.start([stand_in(layout, "web"), stand_in(layout, "edge")])
    before = {part.name: part.pid for part in client.status()}
    supervisor = _supervisor(client)
    supervisor.send(signal.SIGKILL)
    eventually(lambda: not supervisor.is_alive())
    assert record.alive(layout).keys() == {"web", "edge"}

    client.ensure_running()
    assert {part.name: part.pid for part in client.status()} == before

    _kill(before["web"])
    eventually(lambda: _part(client, "web").restarts == 1)
    assert _part(client, "edge").pid == before["edge"]


def test_down_ends_parts_in_the_order_of_their_needs(layout: Layout, client: SupervisorClient) -> None:
    """Clients' side first, so that requests can end; servers last."""
    order = ["edge", "gateway-us-east", "agent-us-east", "beat", "worker", "web", "valkey", "postgres"]
    client.start([stand_in(layout, name) for name in reversed(order)])
    eventually(lambda: all(_started(layout, name) for name in order))

    assert down(layout, lambda _: None) == len(order)

    endings = [int((layout.state / f"{name}.ended").read_text()) for name in order]
    assert endings == sorted(endings)
    assert not client.is_running()
    assert down(layout, lambda _: None) == 0


def test_down_ends_all_that_was_started_and_nothing_else_even_without_a_supervisor(
    layout: Layout, client: SupervisorClient
) -> None:
    """Children that left their group and that nobody wrote down are found by their mark; others live on."""
    runaway = (
        "import subprocess, sys, signal\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print('started', child.pid, flush=True)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "signal.pause()\n"
    )
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        client.start([stand_in(layout, "web", runaway)])
        eventually(lambda: _started(layout, "web"))
        child = ProcessIdentity.of(int(layout.log("web").read_text().split()[1]))
        assert child is not None
        _supervisor(client).send(signal.SIGKILL)

        down(layout, lambda _: None)

        assert not child.is_alive()
        assert not record.alive(layout)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_part_that_ignores_its_signal_is_killed_after_its_grace(
    layout: Layout, client: SupervisorClient
) -> None:
    """``down`` always ends, and says which part didn't by itself."""
    deaf = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('started', flush=True)\n"
    )
    client.start([replace(stand_in(layout, "web", deaf + "time.sleep(600)"), stop_grace_s=0.2)])
    eventually(lambda: _started(layout, "web"))
    said: list[str] = []
    down(layout, said.append)
    assert said == ["web ended (killed after 0 s)"]


def test_a_reused_pid_is_not_taken_for_the_part() -> None:
    """A process is its pid and its start: another one with the same pid gets no signal."""
    child = subprocess.Popen(["sleep", "600"])
    try:
        identity = ProcessIdentity.of(child.pid)
        assert identity is not None
        stranger = replace(identity, started=identity.started - 1)
        assert identity.is_alive()
        assert not stranger.is_alive()
        stranger.send(signal.SIGKILL)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
    assert not identity.is_alive()


def test_the_socket_works_under_a_path_longer_than_sockets_allow(layout: Layout) -> None:
    """A deep checkout is no obstacle."""
    deep = Layout(state=layout.state / ("deep" * 20) / ("deeper" * 10))
    deep.create()
    deep.instance.write_text(layout.instance.read_text())
    client = SupervisorClient(deep)
    client.ensure_running()
    try:
        assert client.status() == []
    finally:
        down(deep, lambda _: None)


def test_a_broken_command_is_refused_and_the_supervisor_lives(
    layout: Layout, client: SupervisorClient
) -> None:
    """What isn't a command gets one line back."""
    with pytest.raises(EmbeddedError, match="refused"):
        client._ask({"do": "explode"})
    assert client.is_running()


def test_large_logs_are_rotated_and_the_oldest_forgotten(layout: Layout) -> None:
    """A log over the limit moves on by one number; three are kept."""
    log = layout.log("web")
    for content in ("one", "two", "three", "four"):
        log.write_text(content)
        rotate(log, limit_bytes=2)
    assert log.read_text() == ""
    kept = {path.name: path.read_text() for path in layout.logs.glob("web.log.*")}
    assert kept == {"web.log.1": "four", "web.log.2": "three", "web.log.3": "two"}


def test_reset_forgets_the_state_but_can_keep_the_caches(layout: Layout, client: SupervisorClient) -> None:
    """After ``reset`` nothing runs and nothing is left, save the caches when asked."""
    client.start([stand_in(layout, "web")])
    (layout.cache / "model").write_text("weights")

    reset(layout, lambda _: None, keep_cache=True)
    assert [entry.name for entry in layout.state.iterdir()] == ["cache"]
    assert not client.is_running()

    layout.create()
    layout.instance.write_text("mark")
    reset(layout, lambda _: None, keep_cache=False)
    assert not layout.state.exists()


def test_reset_leaves_a_folder_alone_that_is_not_ours(layout: Layout) -> None:
    """A state folder without our mark is somebody's data."""
    foreign = Layout(state=layout.state / "foreign")
    foreign.state.mkdir()
    (foreign.state / "thesis.txt").write_text("years of work")
    with pytest.raises(EmbeddedError, match="was not made by"):
        reset(foreign, lambda _: None, keep_cache=False)
    assert (foreign.state / "thesis.txt").exists()


_HEIR = """
import os, signal, sys, time
def end(*_):
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
pid_file = sys.argv[1]
if "--take-over" in sys.argv:
    if "--fail" in sys.argv:
        sys.exit(1)
    old = int(open(pid_file).read())
    os.kill(old, signal.SIGTERM)
    os.write(int(os.environ["MERIDIAN_READY_FD"]), b"+")
open(pid_file, "w").write(str(os.getpid()))
while True:
    time.sleep(60)
"""


def test_a_part_is_succeeded_without_a_gap(layout: Layout, client: SupervisorClient) -> None:
    """The new process takes the part over while the old one runs; it is supervised then, and no restart counted."""
    pid_file = layout.state / "heir.pid"
    argv = (sys.executable, "-c", _HEIR, str(pid_file))
    spec = replace(stand_in(layout, "web"), argv=argv, successor_argv=("--take-over",))
    client.start([spec])
    first = _part(client, "web").pid
    eventually(lambda: pid_file.exists() and pid_file.read_text() == str(first))

    assert client.restart("web") is True

    second = _part(client, "web")
    assert (second.restarts, second.state) == (0, "running")
    assert second.pid != first
    assert first is not None
    eventually(lambda: ProcessIdentity.of(first) is None)
    assert _part(client, "web").pid == second.pid

    _kill(second.pid)
    eventually(lambda: _part(client, "web").restarts == 1)


def test_a_successor_that_fails_leaves_the_old_process(layout: Layout, client: SupervisorClient) -> None:
    """The command says that it failed, and the part runs on as before."""
    pid_file = layout.state / "heir.pid"
    argv = (sys.executable, "-c", _HEIR, str(pid_file))
    spec = replace(stand_in(layout, "web"), argv=argv, successor_argv=("--take-over", "--fail"))
    client.start([spec])
    first = _part(client, "web").pid
    with pytest.raises(EmbeddedError, match="did not come to serve"):
        client.restart("web")
    assert (_part(client, "web").pid, _part(client, "web").restarts) == (first, 0)
    with pytest.raises(EmbeddedError, match="no part 'nothing' runs"):
        client.restart("nothing")


def test_a_part_without_a_successor_is_ended_and_started(layout: Layout, client: SupervisorClient) -> None:
    """Most parts can only be stopped and started."""
    client.start([stand_in(layout, "web")])
    first = _part(client, "web").pid
    eventually(lambda: _started(layout, "web"))
    assert client.restart("web") is False
    assert _part(client, "web").pid != first
    assert (layout.state / "web.ended").exists()


def test_a_gateway_is_upgraded_without_a_refused_connection(layout: Layout, client: SupervisorClient) -> None:
    """The real part: new connections are answered throughout, by the old process and then by the new one."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    spec = parts.gateway(World(layout, {"gateway-eu-west": port}, "simulator"), "eu-west")
    client.start([spec])
    eventually(lambda: probe.answers(spec.probe), within_s=20)
    first = _part(client, spec.name).pid
    stop, statuses = threading.Event(), set[int]()

    def ask() -> None:
        while not stop.is_set():
            statuses.add(httpx.get(spec.probe).status_code)

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            assert client.restart(spec.name) is True
            assert first is not None
            eventually(lambda: ProcessIdentity.of(first) is None)
        finally:
            stop.set()
        for each in asking:
            each.result()
    assert statuses == {200}
    assert _part(client, spec.name).pid != first
