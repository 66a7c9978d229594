"""What the agent writes down: the newest of each, in the end, whatever the disk says meanwhile."""

import asyncio
from pathlib import Path

import pytest

from tests.support.gateway import run
from tests.support.tables import Signer
from tests.support.waiting import eventually_async
from tests.workloadplane.agent.test_tables import desired, identity
from workloadplane.agent import keeper as module
from workloadplane.agent.disk import ObservedFile, StateDir
from workloadplane.agent.keeper import Keeper
from workloadplane.agent.tables import Tables
from workloadplane.protocol.local import EndpointSet


def test_what_the_disk_refuses_is_told_and_written_when_it_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it, and each as it was last; that it is well again is told too."""
    monkeypatch.setattr(module, "_RETRY_S", 0.05)
    disk = StateDir(tmp_path / "agent")
    tables, signer, told = Tables(disk), Signer(), list[str]()
    keeper = Keeper(disk, tables, on_change=lambda: told.append(keeper.unkept))
    away = tmp_path / "away"

    async def scenario() -> None:
        running = asyncio.create_task(keeper.run())
        disk.path.rename(away)
        tables.adopt_updates({"desired": desired(signer, 3)}, identity(signer))
        keeper.keep_tables()
        for generation in (1, 2):
            keeper.keep_identity(identity(signer, plane_epoch=generation))
            keeper.keep_endpoints(EndpointSet(endpoint_generation=generation, endpoints=()))
            keeper.keep_observed(ObservedFile(observed_generation=generation, replicas=()))
        await eventually_async(lambda: told == ["No such file or directory"], what="it is told")
        away.rename(disk.path)
        await eventually_async(lambda: told[1:] == [""], what="it is well again")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(scenario())
    assert disk.read_identity() == identity(signer, plane_epoch=2)
    kept = disk.read_table("desired")
    assert kept is not None
    assert kept.generation == 3
    assert disk.read_endpoints() == EndpointSet(endpoint_generation=2, endpoints=())
    assert disk.read_observed() == ObservedFile(observed_generation=2, replicas=())
    disk.close()
