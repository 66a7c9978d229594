"""Clocks that are wrong, and disks that take nothing."""

import asyncio
import contextlib
import signal
from pathlib import Path

from tests.faults.matrix.faults.scene import Fault, Scene
from tests.faults.matrix.world import ACTIVE_ACTIVE, ACTIVE_PASSIVE, World

SKEW_S = 300.0


def clock_of_cluster(scene: Scene) -> Fault:
    return _clock(scene, scene.cluster(), scene.rng.choice((SKEW_S, -SKEW_S)))


def clock_of_control_plane(scene: Scene) -> Fault:
    return _clock(scene, "control", scene.rng.choice((SKEW_S, -SKEW_S)))


def _clock(scene: Scene, whose: str, offset_s: float) -> Fault:
    async def put() -> None:
        scene.world.clocks[whose].set(offset_s)

    async def end() -> None:
        scene.world.clocks[whose].set(0.0)

    where = "control plane" if whose == "control" else whose
    return Fault("clock", f"clock {offset_s / 60:+.0f} min ({where})", put, end, hold_s=5.0)


def disk_full(scene: Scene) -> Fault:
    cluster = scene.cluster()
    filler = scene.world.agent_dir(cluster) / "filler"

    async def put() -> None:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        _kill_one_of(scene.world, cluster)

    async def end() -> None:
        filler.unlink(missing_ok=True)

    return Fault("disk", f"agent's disk full, a replica killed ({cluster})", put, end)


def disk_read_only(scene: Scene) -> Fault:
    cluster = scene.cluster()
    folder = scene.world.agent_dir(cluster)

    async def put() -> None:
        await _run("mount", "--bind", folder, folder)
        await _run("mount", "-o", "remount,bind,ro", folder)
        _kill_one_of(scene.world, cluster)

    async def end() -> None:
        await _run("umount", "-l", folder)

    # By itself it holds nobody up. An agent that is killed meanwhile stays away, and a standby takes over.
    alone = scene.is_pair and cluster == scene.pair_home
    refusable = frozenset({ACTIVE_PASSIVE}) if alone else frozenset()
    return Fault(
        "disk", f"agent's disk read-only, a replica killed ({cluster})", put, end, may_refuse=refusable
    )


async def _run(*command: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise RuntimeError(f"{command[0]} failed")


def _kill_one_of(world: World, cluster: str) -> None:
    """Of the deployment that others serve too: so that the agent has something to write down."""
    victims = [one.pid for one in world.replicas(cluster) if one.deployment == ACTIVE_ACTIVE]
    world.signal(victims[:1], signal.SIGKILL)
