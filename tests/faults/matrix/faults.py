"""The faults: what each does to which part, and what follows from it by the rules, whoever judges.

A fault is put where it happens: at a process (SIGKILL, SIGSTOP, one tenth of the time), at a socket (a proxy between
two parts), at a clock (its library), at a disk (a small file system), at an engine's own switches.
"""

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import msgspec

from infra.embedded.parts import CLUSTERS
from tests.faults.matrix.world import (
    ACTIVE_ACTIVE,
    ACTIVE_PASSIVE,
    CONTROL,
    EU,
    EU_ONLY,
    TEMPO,
    Replica,
    World,
)
from tests.support.tables import Signer
from workloadplane.protocol.envelope import seal
from workloadplane.protocol.statefile import read_state, write_state
from workloadplane.protocol.tables import Manifest, Table

SKEW_S = 300.0
#: Of a second, in which a slow process runs.
_SLICE_S, _RUNS_SHARE = 0.2, 0.1

Act = Callable[[], Awaitable[None]]


@dataclass
class Fault:
    """One that is to be put in place.

    kind:       one of the classes that are paired
    clusters:   whose serving it harms, so that what may be served only there may be refused
    doors:      whose gateways it takes from their clients, so that connections there may end
    may_refuse: deployments that may be refused while it lasts and until all is settled
    hold_s:     how long it lasts
    """

    kind: str
    name: str
    put: Act
    end: Act
    clusters: frozenset[str] = frozenset()
    doors: frozenset[str] = frozenset()
    may_refuse: frozenset[str] = frozenset()
    hold_s: float = 4.0


@dataclass
class Scene:
    """Where faults are chosen: the world, who serves the pair now, and a source of chance."""

    world: World
    rng: Random
    pair_home: str
    taken: list[Fault] = field(default_factory=list)

    def cluster(self) -> str:
        """One in which something may break: with what is broken already, one region stays whole."""
        broken = frozenset().union(*(each.clusters | each.doors for each in self.taken))
        if len(broken) >= 2:
            return self.rng.choice(sorted(broken))
        return self.rng.choice(CLUSTERS)

    def replica(self) -> Replica:
        return self.rng.choice(sorted(self.world.replicas(self.cluster()), key=lambda one: one.replica_id))

    def refusable(self, clusters: Iterable[str] = (), *, plane: bool = False) -> frozenset[str]:
        """What may be served by nobody else."""
        harmed = set(clusters)
        found = {EU_ONLY} if EU in harmed else set()
        if plane or self.pair_home in harmed:
            found.add(ACTIVE_PASSIVE)
        return frozenset(found)

    def of_region(self, kind: str, name: str, cluster: str, put: Act, end: Act, hold_s: float = 4.0) -> Fault:
        """One that takes a whole region."""
        one = frozenset({cluster})
        return Fault(kind, f"{name} ({cluster})", put, end, one, one, self.refusable(one), hold_s)

    def of_replica(self, kind: str, name: str, one: Replica, put: Act, end: Act) -> Fault:
        """One that takes a single replica: others of its deployment serve, but of the pair."""
        alone = one.deployment == ACTIVE_PASSIVE and one.cluster == self.pair_home
        refusable = frozenset({ACTIVE_PASSIVE}) if alone else frozenset()
        return Fault(kind, f"{name} ({one.deployment}, {one.cluster})", put, end, may_refuse=refusable)


async def nothing() -> None:
    """What heals by itself."""


# -- processes ---------------------------------------------------------------------------------------


def _region_pids(world: World, cluster: str) -> list[int]:
    own = world.pids(f"agent-{cluster}", f"gateway-{cluster}")
    return own + [one.pid for one in world.replicas(cluster)]


def kill_replica(scene: Scene) -> Fault:
    one = scene.replica()

    async def put() -> None:
        scene.world.signal([one.pid], signal.SIGKILL)

    return scene.of_replica("kill", "replica killed", one, put, nothing)


def kill_agent(scene: Scene) -> Fault:
    cluster = scene.cluster()

    async def put() -> None:
        scene.world.kill_parts(f"agent-{cluster}")

    return Fault("kill", f"agent killed ({cluster})", put, scene.world.restart_dead)


def kill_gateway(scene: Scene) -> Fault:
    cluster = scene.cluster()

    async def put() -> None:
        scene.world.kill_parts(f"gateway-{cluster}")

    return scene.of_region("kill", "gateway killed", cluster, put, scene.world.restart_dead)


def _region_killed(scene: Scene, name: str, cluster: str) -> Fault:
    async def put() -> None:
        scene.world.hold_supervisor()
        scene.world.signal([one.pid for one in scene.world.replicas(cluster)], signal.SIGKILL)
        scene.world.kill_parts(f"agent-{cluster}", f"gateway-{cluster}")

    async def end() -> None:
        scene.world.let_supervisor()
        await scene.world.restart_dead()

    return scene.of_region("kill", name, cluster, put, end)


def kill_region(scene: Scene) -> Fault:
    return _region_killed(scene, "region killed", scene.cluster())


def kill_provider(scene: Scene) -> Fault:
    """In the example world each provider has one region; this is the one that has most."""
    return _region_killed(scene, "provider killed", EU)


def kill_control_plane(scene: Scene) -> Fault:
    async def put() -> None:
        scene.world.hold_supervisor()
        scene.world.kill_parts(*CONTROL)

    async def end() -> None:
        scene.world.let_supervisor()
        await scene.world.restart_dead()

    return Fault("kill", "control plane killed", put, end, may_refuse=scene.refusable(plane=True), hold_s=6.0)


def _frozen(scene: Scene, pids: Callable[[], list[int]]) -> tuple[Act, Act]:
    stopped: list[int] = []

    async def put() -> None:
        stopped.extend(await asyncio.to_thread(pids))
        scene.world.signal(stopped, signal.SIGSTOP)

    async def end() -> None:
        scene.world.signal(stopped, signal.SIGCONT)

    return put, end


def freeze_replica(scene: Scene) -> Fault:
    one = scene.replica()
    return scene.of_replica("freeze", "replica frozen", one, *_frozen(scene, lambda: [one.pid]))


def freeze_agent(scene: Scene) -> Fault:
    cluster = scene.cluster()
    acts = _frozen(scene, lambda: scene.world.pids(f"agent-{cluster}"))
    return Fault("freeze", f"agent frozen ({cluster})", *acts)


def freeze_gateway(scene: Scene) -> Fault:
    cluster = scene.cluster()
    acts = _frozen(scene, lambda: scene.world.pids(f"gateway-{cluster}"))
    return scene.of_region("freeze", "gateway frozen", cluster, *acts, hold_s=5.0)


def freeze_region(scene: Scene) -> Fault:
    cluster = scene.cluster()
    acts = _frozen(scene, lambda: _region_pids(scene.world, cluster))
    return scene.of_region("freeze", "region frozen", cluster, *acts, hold_s=5.0)


def freeze_provider(scene: Scene) -> Fault:
    acts = _frozen(scene, lambda: _region_pids(scene.world, EU))
    return scene.of_region("freeze", "provider frozen", EU, *acts, hold_s=5.0)


def freeze_control_plane(scene: Scene) -> Fault:
    acts = _frozen(scene, lambda: scene.world.pids(*CONTROL))
    refusable = scene.refusable(plane=True)
    return Fault("freeze", "control plane frozen", *acts, may_refuse=refusable, hold_s=6.0)


def _slow(
    scene: Scene, pids: Callable[[], list[int]], replicas: Callable[[], list[Replica]]
) -> tuple[Act, Act]:
    """Processes run a tenth of the time, engines take ten times as long for a token."""
    tasks: list[asyncio.Task[None]] = []
    slowed: list[int] = []
    engines: list[Replica] = []

    async def beat() -> None:
        while True:
            scene.world.signal(slowed, signal.SIGSTOP)
            await asyncio.sleep(_SLICE_S * (1 - _RUNS_SHARE))
            scene.world.signal(slowed, signal.SIGCONT)
            await asyncio.sleep(_SLICE_S * _RUNS_SHARE)

    async def put() -> None:
        slowed.extend(pids())
        engines.extend(replicas())
        await scene.world.set_faults(engines, slow_factor=10 * TEMPO)
        if slowed:
            tasks.append(asyncio.create_task(beat()))

    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        scene.world.signal(slowed, signal.SIGCONT)
        await scene.world.set_faults(engines)

    return put, end


def slow_replica(scene: Scene) -> Fault:
    one = scene.replica()
    return scene.of_replica("slow", "replica ten times slower", one, *_slow(scene, list, lambda: [one]))


def slow_agent(scene: Scene) -> Fault:
    cluster = scene.cluster()
    acts = _slow(scene, lambda: scene.world.pids(f"agent-{cluster}"), list)
    return Fault("slow", f"agent ten times slower ({cluster})", *acts)


def slow_gateway(scene: Scene) -> Fault:
    cluster = scene.cluster()
    acts = _slow(scene, lambda: scene.world.pids(f"gateway-{cluster}"), list)
    return scene.of_region("slow", "gateway ten times slower", cluster, *acts)


def slow_region(scene: Scene) -> Fault:
    return _region_slow(scene, "region ten times slower", scene.cluster())


def slow_provider(scene: Scene) -> Fault:
    return _region_slow(scene, "provider ten times slower", EU)


def _region_slow(scene: Scene, name: str, cluster: str) -> Fault:
    own = (f"agent-{cluster}", f"gateway-{cluster}")
    acts = _slow(scene, lambda: scene.world.pids(*own), lambda: scene.world.replicas(cluster))
    return scene.of_region("slow", name, cluster, *acts)


# -- errors ------------------------------------------------------------------------------------------


def _failing(scene: Scene, replicas: Callable[[], list[Replica]]) -> tuple[Act, Act]:
    failing: list[Replica] = []

    async def put() -> None:
        failing.extend(replicas())
        await scene.world.set_faults(failing, unavailable_share=1.0)

    async def end() -> None:
        await scene.world.set_faults(failing)

    return put, end


def error_replica(scene: Scene) -> Fault:
    one = scene.replica()
    return scene.of_replica("error", "replica answers errors", one, *_failing(scene, lambda: [one]))


def error_agent(scene: Scene) -> Fault:
    """What an agent asks its control plane is answered with errors."""
    cluster = scene.cluster()

    async def put() -> None:
        scene.world.homes[cluster].answers_errors = True

    async def end() -> None:
        scene.world.homes[cluster].mend()

    return Fault("error", f"agent's calls answered with errors ({cluster})", put, end)


def error_gateway(scene: Scene) -> Fault:
    cluster = scene.cluster()

    async def put() -> None:
        scene.world.gateways[cluster].answers_errors = True

    async def end() -> None:
        scene.world.gateways[cluster].mend()

    return scene.of_region("error", "gateway answers errors", cluster, put, end)


def error_region(scene: Scene) -> Fault:
    cluster = scene.cluster()
    acts = _failing(scene, lambda: scene.world.replicas(cluster))
    return scene.of_region("error", "region's replicas answer errors", cluster, *acts)


def error_provider(scene: Scene) -> Fault:
    acts = _failing(scene, lambda: scene.world.replicas(EU))
    return scene.of_region("error", "provider's replicas answer errors", EU, *acts)


# -- ways --------------------------------------------------------------------------------------------


def partition_one_way(scene: Scene) -> Fault:
    caller, called = scene.rng.sample(CLUSTERS, 2)
    return _cut_gateways(scene, [(caller, called)], f"{caller} can't call {called}")


def partition_both_ways(scene: Scene) -> Fault:
    one, other = scene.rng.sample(CLUSTERS, 2)
    return _cut_gateways(scene, [(one, other), (other, one)], f"{one} and {other} can't call each other")


def _cut_gateways(scene: Scene, ways: list[tuple[str, str]], name: str) -> Fault:
    """Each serves what it has; what only the other has can't be asked for from there."""
    world = scene.world

    async def put() -> None:
        for caller, called in ways:
            world.gateways[called].cut(frozenset(world.pids(f"gateway-{caller}")))

    async def end() -> None:
        for _, called in ways:
            world.gateways[called].mend()

    refusable = scene.refusable(called for _, called in ways)
    return Fault("partition", name, put, end, may_refuse=refusable, hold_s=5.0)


def partition_agent(scene: Scene) -> Fault:
    """Longer than a lease, so that a standby takes over where this one served."""
    cluster = scene.cluster()

    async def put() -> None:
        scene.world.homes[cluster].cut(None)

    async def end() -> None:
        scene.world.homes[cluster].mend()

    refusable = frozenset({ACTIVE_PASSIVE}) if cluster == scene.pair_home else frozenset()
    name = f"agent of {cluster} cut off from the control plane"
    return Fault("partition", name, put, end, may_refuse=refusable, hold_s=9.0)


def partition_database(scene: Scene) -> Fault:
    async def put() -> None:
        assert scene.world.database is not None
        scene.world.database.cut(None)

    async def end() -> None:
        assert scene.world.database is not None
        scene.world.database.mend()

    refusable = scene.refusable(plane=True)
    return Fault(
        "partition", "control plane cut off from PostgreSQL", put, end, may_refuse=refusable, hold_s=7.0
    )


# -- clocks ------------------------------------------------------------------------------------------


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


# -- disks -------------------------------------------------------------------------------------------


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

    return _of_disk(scene, f"agent's disk full, a replica killed ({cluster})", cluster, put, end)


def disk_read_only(scene: Scene) -> Fault:
    cluster = scene.cluster()
    folder = scene.world.agent_dir(cluster)

    async def put() -> None:
        await _run("mount", "--bind", folder, folder)
        await _run("mount", "-o", "remount,bind,ro", folder)
        _kill_one_of(scene.world, cluster)

    async def end() -> None:
        await _run("umount", "-l", folder)

    return _of_disk(scene, f"agent's disk read-only, a replica killed ({cluster})", cluster, put, end)


def _of_disk(scene: Scene, name: str, cluster: str, put: Act, end: Act) -> Fault:
    """An agent that can keep no table can't say either that it serves the pair no more: a hand-over waits for it."""
    refusable = frozenset({ACTIVE_PASSIVE}) if cluster == scene.pair_home else frozenset()
    return Fault("disk", name, put, end, may_refuse=refusable)


async def _run(*command: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise RuntimeError(f"{command[0]} failed")


def _kill_one_of(world: World, cluster: str) -> None:
    """Of the deployment that others serve too: so that the agent has something to write down."""
    victims = [one.pid for one in world.replicas(cluster) if one.deployment == ACTIVE_ACTIVE]
    world.signal(victims[:1], signal.SIGKILL)


# -- state and tables --------------------------------------------------------------------------------

_STATE_FILES = (
    "tables/routing.json",
    "tables/keyset.json",
    "tables/desired.json",
    "endpoints.json",
    "observed.json",
)


def state_truncated(scene: Scene) -> Fault:
    return _damaged(scene, "truncated", lambda content: content[: len(content) // 2])


def state_flipped(scene: Scene) -> Fault:
    def flipped(content: bytes) -> bytes:
        at = scene.rng.randrange(len(content))
        return content[:at] + bytes([content[at] ^ (1 << scene.rng.randrange(8))]) + content[at + 1 :]

    return _damaged(scene, "with a flipped bit", flipped)


def _damaged(scene: Scene, how: str, change: Callable[[bytes], bytes]) -> Fault:
    """And whoever reads it is killed, so that it is read."""
    cluster, name = scene.cluster(), scene.rng.choice(_STATE_FILES)
    file = scene.world.agent_dir(cluster) / name

    async def put() -> None:
        with contextlib.suppress(OSError):
            _overwrite(file, change(file.read_bytes()))
        scene.world.kill_parts(f"agent-{cluster}", f"gateway-{cluster}")

    return scene.of_region(
        "state", f"{name} {how}, agent and gateway killed", cluster, put, scene.world.restart_dead
    )


def _overwrite(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    os.sync()


def table_stale(scene: Scene) -> Fault:
    """An old one lies on the disk when the agent starts; its gateway holds a newer one."""
    cluster = scene.cluster()

    async def put() -> None:
        with contextlib.suppress(OSError):
            _overwrite(
                scene.world.agent_dir(cluster) / "tables" / "routing.json", scene.world.stale_tables[cluster]
            )
        scene.world.kill_parts(f"agent-{cluster}")

    return Fault("state", f"stale routing table, agent killed ({cluster})", put, scene.world.restart_dead)


def table_forged(scene: Scene) -> Fault:
    """A newer one that lets everything be served anywhere, signed by a key that nobody trusts."""
    cluster = scene.cluster()

    async def put() -> None:
        with contextlib.suppress(OSError, ValueError):
            forge(scene.world.agent_dir(cluster) / "tables" / "routing.json")
        scene.world.kill_parts(f"agent-{cluster}", f"gateway-{cluster}")

    return scene.of_region(
        "state", "forged routing table, agent and gateway killed", cluster, put, scene.world.restart_dead
    )


def forge(file: Path) -> None:
    """Write the table in this file anew: of a later generation, with no residency, by another key of the same name."""
    content = read_state(file)
    if not isinstance(content, bytes):
        return
    table = msgspec.json.decode(content, type=Table)
    entries = {}
    for name, entry in table.entries.items():
        told = msgspec.json.decode(entry)
        entries[name] = msgspec.json.encode({**told, "residency": []})
    manifest = Manifest(
        header=table.contents().header,
        entries={name: hashlib.sha256(entry).hexdigest() for name, entry in entries.items()},
    )
    envelope = seal(
        msgspec.json.encode(manifest),
        kind="routing",
        key_id=table.manifest.key_id,
        private_key=Signer().private_key,
        audience=table.manifest.audience,
        plane_epoch=table.manifest.plane_epoch,
        generation=table.generation + 1000,
    )
    write_state(file, msgspec.json.encode(Table(manifest=envelope, entries=entries)))


# -- the control plane in the middle of something ----------------------------------------------------


def adoption(scene: Scene) -> Fault:
    """A document changes, and while its plan is made and adopted the control plane is killed."""
    world = scene.world
    after_s = scene.rng.uniform(0.0, 0.4)

    async def put() -> None:
        delay_s = scene.rng.choice((301.0, 302.0, 303.0, 304.0))

        def change() -> None:
            with world.system.api() as client:
                document = {
                    "autoscaling": {"min_replicas": 2, "max_replicas": 3, "scale_down_delay_s": delay_s}
                }
                answer = client.patch(f"/deployments/{ACTIVE_ACTIVE}", json=document)
                assert answer.status_code in (200, 202), answer.text

        await asyncio.to_thread(change)
        await asyncio.sleep(after_s)
        world.kill_parts("web", "worker", "postgres")

    refusable = scene.refusable(plane=True)
    return Fault(
        "adoption",
        "control plane killed while a plan is adopted",
        put,
        world.restart_dead,
        may_refuse=refusable,
    )


Maker = Callable[[Scene], Fault]

CATALOGUE: dict[str, tuple[Maker, ...]] = {
    "kill": (kill_replica, kill_agent, kill_gateway, kill_region, kill_provider, kill_control_plane),
    "freeze": (
        freeze_replica,
        freeze_agent,
        freeze_gateway,
        freeze_region,
        freeze_provider,
        freeze_control_plane,
    ),
    "slow": (slow_replica, slow_agent, slow_gateway, slow_region, slow_provider),
    "error": (error_replica, error_agent, error_gateway, error_region, error_provider),
    "partition": (partition_one_way, partition_both_ways, partition_agent, partition_database),
    "clock": (clock_of_cluster, clock_of_control_plane),
    "disk": (disk_full, disk_read_only),
    "state": (state_truncated, state_flipped, table_stale, table_forged),
}
#: Not one of the kinds that are paired.
ALONE: tuple[Maker, ...] = (adoption,)
