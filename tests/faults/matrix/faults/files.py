"""State files that are damaged, and routing tables that are old or forged."""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.faults.matrix.faults.scene import Fault, Scene
from tests.support.tables import Signer
from workloadplane.protocol.envelope import seal
from workloadplane.protocol.statefile import read_state, write_state
from workloadplane.protocol.tables import Manifest, Table

_STATE_FILES = (
    "identity.json",
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
