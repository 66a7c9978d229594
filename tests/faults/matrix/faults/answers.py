"""Whoever is asked answers, and always with an error."""

from collections.abc import Callable

from tests.faults.matrix.faults.scene import Act, Fault, Scene
from tests.faults.matrix.world import EU, Replica


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
