"""Replicas as real processes: started, watched, stopped, lost and found again."""

import asyncio
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import eventually, eventually_async
from workloadplane import engines
from workloadplane.engines.base import EngineReplica
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.statefile import read_state, write_state
from workloadplane.runtimes import processes
from workloadplane.runtimes.base import ReplicaSpec, RunningReplica, RuntimeBusyError
from workloadplane.runtimes.process import ProcessRuntime, stop_all

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print('child', child.pid, flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        engines.ENGINE_MODULES,
        "scripted",
        "tests.workloadplane.runtimes.scripted_engine",
    )


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """Whatever a test did, no process of its replicas stays behind."""
    yield
    for replica_id, leaders in processes.marked_leaders(tmp_path).items():
        for leader in leaders:
            processes.kill_session(leader, state_dir=tmp_path, replica_id=replica_id)


def spec(
    replica_id: str = "r-1", script: str = SLEEP, *, version: str = "1", patience_s: float = 5.0
) -> ReplicaSpec:
    replica = EngineReplica(
        served_model="chat",
        source_uri="file:///models/m",
        precision="bfloat16",
        max_context_tokens=512,
        engine_version=version,
        arguments={"script": script},
        engine_key="very-secret-key",
        shutdown_timeout_s=patience_s,
    )
    return ReplicaSpec(replica_id=replica_id, engine="scripted", replica=replica, labels={"pool": "p"})


def with_runtime(tmp_path: Path, steps: Callable[[ProcessRuntime], Awaitable[None]]) -> None:
    async def run() -> None:
        async with ProcessRuntime(state_dir=tmp_path, engines_dir=tmp_path, cache_dir=tmp_path) as runtime:
            await steps(runtime)

    asyncio.run(asyncio.wait_for(run(), 30))


async def started(runtime: ProcessRuntime, wanted: ReplicaSpec, *, says: str = "up") -> RunningReplica:
    running = await runtime.start(wanted)
    assert isinstance(running, RunningReplica), running

    async def has_said() -> bool:
        return says in await runtime.log_tail(running.runtime_ref)

    await eventually_async(has_said, what=f"the replica says {says!r}")
    return running


def record_of(tmp_path: Path, replica_id: str = "r-1") -> dict[str, object]:
    content = read_state(tmp_path / "replicas" / f"{replica_id}.json")
    assert isinstance(content, bytes)
    record: dict[str, object] = json.loads(content)
    return record


def pid_of(tmp_path: Path, replica_id: str = "r-1") -> int:
    pid = record_of(tmp_path, replica_id)["pid"]
    assert isinstance(pid, int)
    return pid


def is_running(pid: int) -> bool:
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_a_replica_has_its_own_session_and_no_secret_where_others_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key is neither on its command line nor in a file that others can read; our secrets are not passed
    on.
    """
    monkeypatch.setenv("DATABASE_PASSWORD", "of-the-agent")

    async def steps(runtime: ProcessRuntime) -> None:
        running = await started(runtime, spec())
        process = psutil.Process(pid_of(tmp_path))
        assert os.getsid(process.pid) == process.pid
        assert "very-secret-key" not in " ".join(process.cmdline())
        assert "very-secret-key" not in repr(running)
        assert process.environ()["KEY"] == "very-secret-key"
        assert "DATABASE_PASSWORD" not in process.environ()
        for path in (tmp_path / "replicas" / "r-1.json", tmp_path / "logs" / "replicas" / "r-1.log"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    with_runtime(tmp_path, steps)


def test_starting_twice_gives_the_first(tmp_path: Path) -> None:
    """Two starts of one id, even at once, make one process; two ids get two ports."""

    async def steps(runtime: ProcessRuntime) -> None:
        first, second = await asyncio.gather(runtime.start(spec()), runtime.start(spec()))
        other = await runtime.start(spec("r-2"))
        assert first == second
        assert isinstance(first, RunningReplica)
        assert isinstance(other, RunningReplica)
        assert first.endpoint.port != other.endpoint.port
        assert [len(leaders) for leaders in processes.marked_leaders(tmp_path).values()] == [1, 1]

    with_runtime(tmp_path, steps)


def test_the_end_of_a_replica_is_told_to_all_who_wait(tmp_path: Path) -> None:
    """Its exit code, or the signal that killed it; afterwards stop clears up and the log is still there."""

    async def steps(runtime: ProcessRuntime) -> None:
        leaving = await runtime.start(spec("r-1", "import sys; print('bye'); sys.exit(3)"))
        killed = await started(runtime, spec("r-2"))
        assert isinstance(leaving, RunningReplica)
        exits = await asyncio.gather(runtime.wait(leaving.runtime_ref), runtime.wait(leaving.runtime_ref))
        assert [end.exit_code for end in exits] == [3, 3]
        waiting = asyncio.create_task(runtime.wait(killed.runtime_ref))
        os.kill(pid_of(tmp_path, "r-2"), signal.SIGKILL)
        assert (await waiting).exit_code == -signal.SIGKILL
        await runtime.stop(leaving.runtime_ref)
        assert not (tmp_path / "replicas" / "r-1.json").exists()
        assert "bye" in await runtime.log_tail(leaving.runtime_ref)

    with_runtime(tmp_path, steps)


def test_stop_lets_a_replica_end_by_itself(tmp_path: Path) -> None:
    """SIGTERM first: what the replica does with it is done, and nothing is forced."""
    polite = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('finished my work', flush=True), sys.exit(0)))\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )

    async def steps(runtime: ProcessRuntime) -> None:
        running = await started(runtime, spec(script=polite))
        ended = await runtime.stop(running.runtime_ref)
        assert (ended.exit_code, ended.killed) == (0, False)
        assert "finished my work" in await runtime.log_tail(running.runtime_ref)
        assert await runtime.adopt() == ()

    with_runtime(tmp_path, steps)


def test_stop_forces_all_of_a_replica_that_does_not_listen(tmp_path: Path) -> None:
    """When the grace is over the whole session dies, children too; a hurried second stop shortens the
    grace.
    """

    async def steps(runtime: ProcessRuntime) -> None:
        running = await started(runtime, spec(script=STUBBORN), says="child")
        child = int((await runtime.log_tail(running.runtime_ref)).split()[1])
        patient = asyncio.create_task(runtime.stop(running.runtime_ref, grace_s=600))
        await asyncio.sleep(0)
        hurried = await runtime.stop(running.runtime_ref, grace_s=0.05)
        assert hurried == await patient
        assert hurried.killed
        await eventually_async(lambda: not is_running(child), what="the child is gone")

    with_runtime(tmp_path, steps)


def test_a_halted_replica_can_still_be_stopped(tmp_path: Path) -> None:
    """One under SIGSTOP is let go, so that it can hear SIGTERM."""

    async def steps(runtime: ProcessRuntime) -> None:
        running = await started(runtime, spec())
        os.kill(pid_of(tmp_path), signal.SIGSTOP)
        ended = await runtime.stop(running.runtime_ref)
        assert (ended.exit_code, ended.killed) == (-signal.SIGTERM, False)

    with_runtime(tmp_path, steps)


AGENT = """
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.workloadplane.runtimes import test_process as tests
from workloadplane import engines
from workloadplane.runtimes.process import ProcessRuntime

async def main():
    engines.ENGINE_MODULES["scripted"] = "tests.workloadplane.runtimes.scripted_engine"
    state = Path({state!r})
    async with ProcessRuntime(state_dir=state, engines_dir=state, cache_dir=state) as runtime:
        await tests.started(runtime, tests.spec())
        os.kill(os.getpid(), 9)

asyncio.run(main())
"""


def kill_an_agent_with_a_replica(tmp_path: Path) -> int:
    """An agent in a process of its own starts a replica and dies by SIGKILL; the replica's process id."""
    root = str(Path(__file__).parents[3])
    agent = subprocess.run([sys.executable, "-c", AGENT.format(root=root, state=str(tmp_path))], check=False)
    assert agent.returncode == -signal.SIGKILL
    return pid_of(tmp_path)


def test_the_replica_of_a_killed_agent_is_adopted_and_not_doubled(tmp_path: Path) -> None:
    """It lives on; the next agent finds it with its labels and port, a start gives it back, and stop ends
    it.
    """
    pid = kill_an_agent_with_a_replica(tmp_path)
    assert is_running(pid)

    async def steps(runtime: ProcessRuntime) -> None:
        (adopted,) = await runtime.adopt()
        assert adopted.adopted
        assert adopted.spec == spec()
        assert adopted.endpoint.port == record_of(tmp_path)["port"]
        assert await runtime.start(spec()) == adopted
        assert processes.marked_leaders(tmp_path) == {"r-1": [pid]}
        waiting = asyncio.create_task(runtime.wait(adopted.runtime_ref))
        await asyncio.sleep(0)
        assert (await runtime.stop(adopted.runtime_ref)).exit_code is None
        await waiting
        assert not is_running(pid)

    with_runtime(tmp_path, steps)


def test_an_agent_that_died_before_it_wrote_the_process_down_loses_nothing(tmp_path: Path) -> None:
    """A record without a process id is led to its process by the mark; one that never had one is dropped."""
    pid = kill_an_agent_with_a_replica(tmp_path)
    record = record_of(tmp_path)
    for replica_id in ("r-1", "r-never"):
        assert isinstance(record["spec"], dict)
        record |= {
            "pid": None,
            "start_since_boot_s": None,
            "spec": {**record["spec"], "replica_id": replica_id},
        }
        write_state(tmp_path / "replicas" / f"{replica_id}.json", json.dumps(record).encode())

    async def steps(runtime: ProcessRuntime) -> None:
        (adopted,) = await runtime.adopt()
        assert adopted.spec.replica_id == "r-1"
        assert not (tmp_path / "replicas" / "r-never.json").exists()
        await runtime.stop(adopted.runtime_ref)
        assert not is_running(pid)

    with_runtime(tmp_path, steps)


@pytest.mark.parametrize("damage", ["removed", "flipped"])
def test_a_replica_whose_record_is_lost_is_ended(tmp_path: Path, damage: str) -> None:
    """Nobody could talk to it or account for it, so it must not go on using a GPU."""
    pid = kill_an_agent_with_a_replica(tmp_path)
    path = tmp_path / "replicas" / "r-1.json"
    if damage == "removed":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[-10] ^= 1
        path.write_bytes(content)

    async def steps(runtime: ProcessRuntime) -> None:
        assert await runtime.adopt() == ()
        await eventually_async(lambda: not is_running(pid), what="the replica is gone")
        assert not path.exists()

    with_runtime(tmp_path, steps)


def test_a_stranger_with_the_process_id_of_a_dead_replica_is_left_alone(tmp_path: Path) -> None:
    """A reused process id is told apart by mark; the stranger is neither adopted nor killed."""
    os.kill(kill_an_agent_with_a_replica(tmp_path), signal.SIGKILL)
    stranger = subprocess.Popen(
        [sys.executable, "-c", SLEEP], stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        record = record_of(tmp_path) | {"pid": stranger.pid}
        write_state(tmp_path / "replicas" / "r-1.json", json.dumps(record).encode())

        async def steps(runtime: ProcessRuntime) -> None:
            assert await runtime.adopt() == ()

        with_runtime(tmp_path, steps)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_what_a_dead_replica_left_behind_is_cleared_away(tmp_path: Path) -> None:
    """Its leader is gone, a child of it still runs: adopt ends the child and forgets the replica."""
    children: list[int] = []

    async def first(runtime: ProcessRuntime) -> None:
        running = await started(runtime, spec(script=STUBBORN), says="child")
        children.append(int((await runtime.log_tail(running.runtime_ref)).split()[1]))

    with_runtime(tmp_path, first)
    leader = pid_of(tmp_path)
    os.kill(leader, signal.SIGKILL)
    eventually(lambda: not is_running(leader), what="the leader is gone")

    async def second(runtime: ProcessRuntime) -> None:
        assert await runtime.adopt() == ()

    with_runtime(tmp_path, second)
    eventually(lambda: not is_running(children[0]), what="the child is gone")


def test_two_runtimes_never_share_a_state_directory(tmp_path: Path) -> None:
    """The second is told who is in its way, before it can touch a replica."""

    async def steps(runtime: ProcessRuntime) -> None:
        await started(runtime, spec())
        with pytest.raises(RuntimeBusyError, match="another process holds it"):
            await stop_all(tmp_path)
        assert is_running(pid_of(tmp_path))

    with_runtime(tmp_path, steps)


def test_what_a_killed_agent_was_starting_does_not_shut_its_successor_out(tmp_path: Path) -> None:
    """A child between fork and exec has the lock for a moment longer than its agent lives."""
    directory = tmp_path / "replicas"
    directory.mkdir()

    async def scenario() -> None:
        with (directory / "lock").open("w") as child:
            fcntl.flock(child, fcntl.LOCK_EX)
            entering = asyncio.create_task(stop_all(tmp_path))
            await asyncio.sleep(0.1)  # it finds the lock taken
            assert not entering.done()
        assert await entering == 0

    asyncio.run(scenario())


def test_stop_all_ends_every_replica_and_nothing_else(tmp_path: Path) -> None:
    """Long after the agent: every replica of this directory ends, one of another directory does not."""
    ours, other = tmp_path / "ours", tmp_path / "other"

    async def start_two(runtime: ProcessRuntime) -> None:
        await asyncio.gather(runtime.start(spec("r-1")), runtime.start(spec("r-2")))

    with_runtime(ours, start_two)
    with_runtime(other, start_two)
    assert asyncio.run(stop_all(ours)) == 2
    assert processes.marked_leaders(ours) == {}
    assert len(processes.marked_leaders(other)) == 2
    assert asyncio.run(stop_all(other, grace_s=0.0)) == 2
    assert asyncio.run(stop_all(ours)) == 0


@pytest.mark.parametrize(
    ("wanted", "rule"),
    [
        (spec("../etc"), "replica_id"),
        (spec("r-1", version="missing"), "engine_installed"),
        (spec("r-1", version="broken"), "replica_spawn"),
    ],
)
def test_what_cannot_be_started_is_refused_and_leaves_no_trace(
    tmp_path: Path, wanted: ReplicaSpec, rule: str
) -> None:
    """A Refusal names what is wrong; no record, no process."""

    async def steps(runtime: ProcessRuntime) -> None:
        refusal = await runtime.start(wanted)
        assert isinstance(refusal, Refusal)
        assert refusal.rule == rule
        assert list((tmp_path / "replicas").glob("*.json")) == []

    with_runtime(tmp_path, steps)


def test_a_disk_that_refuses_is_a_refusal_and_starts_nothing(tmp_path: Path) -> None:
    """Without a record a process could be lost, so there is none; what already runs can still be stopped."""

    async def steps(runtime: ProcessRuntime) -> None:
        running = await started(runtime, spec("r-1"))
        (tmp_path / "replicas").rename(tmp_path / "gone")
        (tmp_path / "replicas").write_text("in the way")
        refusal = await runtime.start(spec("r-2"))
        assert isinstance(refusal, Refusal)
        assert refusal.rule == "replica_spawn"
        assert set(processes.marked_leaders(tmp_path)) == {"r-1"}
        assert (await runtime.stop(running.runtime_ref)).exit_code == -signal.SIGTERM

    with_runtime(tmp_path, steps)
