"""Processes that are killed, frozen or slow: of a replica, agent, gateway, region, provider or the control plane."""

import asyncio
import signal
from collections.abc import Callable

from tests.faults.matrix.faults.scene import Act, Fault, Scene, nothing
from tests.faults.matrix.world import ACTIVE_ACTIVE, CONTROL, EU, TEMPO, Replica, World

#: Of a second, in which a slow process runs.
_SLICE_S, _RUNS_SHARE = 0.2, 0.1


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
