"""Ways that are cut: silence between two parts that both live."""

from infra.embedded.parts import CLUSTERS
from tests.faults.matrix.faults.scene import Fault, Scene
from tests.faults.matrix.world import ACTIVE_PASSIVE


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
