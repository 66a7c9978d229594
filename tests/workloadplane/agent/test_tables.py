"""Tables in force: what is taken, kept and trusted."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.fake_control_plane import CLUSTER_ID, CLUSTER_NAME
from tests.support.tables import Signer
from tests.workloadplane.agent.conftest import assignment
from workloadplane.agent.disk import AgentIdentity, StateDir
from workloadplane.agent.tables import Tables
from workloadplane.protocol.desired import DesiredAssignment, DesiredHeader
from workloadplane.protocol.routing import KeySetHeader
from workloadplane.protocol.tables import Table, TableUpdate

_CHECKSUM_BYTES = len(b"sha256 ") + 64 + 1
HEADER = DesiredHeader(
    cluster_id=CLUSTER_ID, cluster_name=CLUSTER_NAME, region="eu-west-1", jurisdiction="eu", pools=()
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[StateDir]:
    disk = StateDir(tmp_path / "agent")
    yield disk
    disk.close()


def identity(signer: Signer, *, plane_epoch: int = 1) -> AgentIdentity:
    return AgentIdentity(
        cluster_id=CLUSTER_ID,
        cluster_name=CLUSTER_NAME,
        signing_keys=signer.public,
        cluster_epoch=1,
        plane_epoch=plane_epoch,
        token_sha256="",
    )


def desired(
    signer: Signer, generation: int, *entries: DesiredAssignment, plane_epoch: int = 1
) -> TableUpdate:
    named: dict[str, msgspec.Struct] = {entry.assignment_id: entry for entry in entries}
    table = signer.table(
        "desired", HEADER, named, audience=CLUSTER_ID, generation=generation, plane_epoch=plane_epoch
    )
    return update(table)


def update(table: Table) -> TableUpdate:
    return TableUpdate(manifest=table.manifest, entries=table.entries)


def rules(tables: Tables, who: AgentIdentity, **updates: TableUpdate) -> list[str]:
    """The rules by which updates were refused."""
    return [refusal.rule for refusal in tables.adopt_updates(updates, who).refusals]


def test_a_table_is_on_the_disk_before_it_is_in_force(disk: StateDir) -> None:
    """A restart finds what was adopted, verifies it again and starts from it."""
    signer = Signer()
    assert rules(Tables(disk), identity(signer), desired=desired(signer, 3, assignment())) == []

    restarted = Tables(disk)
    restarted.load(identity(signer))
    assert restarted.held_generations == {"desired": 3}
    assert restarted.desired is not None
    assert restarted.desired.assignments == (assignment(),)

    stranger = Tables(disk)
    stranger.load(identity(Signer()))
    assert stranger.held_generations == {}


def test_a_table_that_cannot_be_kept_is_used_and_written_later(disk: StateDir) -> None:
    """Who waits for it does not wait for the disk; nothing older is taken, and a restart finds it in the end."""
    signer = Signer()
    tables = Tables(disk)
    assert rules(tables, identity(signer), desired=desired(signer, 1)) == []
    folder = disk.path / "tables"
    folder.rename(disk.path / "away")
    assert rules(tables, identity(signer), desired=desired(signer, 3)) == []
    assert tables.held_generations == {"desired": 3}
    assert tables.has_unkept
    assert rules(tables, identity(signer), desired=desired(signer, 2)) == ["generation_rises"]
    with pytest.raises(OSError, match="tables"):
        tables.keep()

    (disk.path / "away").rename(folder)
    tables.keep()
    assert not tables.has_unkept
    restarted = Tables(disk)
    restarted.load(identity(signer))
    assert restarted.held_generations == {"desired": 3}


def test_epoch_and_generation_only_rise(disk: StateDir) -> None:
    """Also for a kind of which no table is held: the epoch is remembered with the identity."""
    signer = Signer()
    tables = Tables(disk)
    who = identity(signer, plane_epoch=2)
    assert rules(tables, who, desired=desired(signer, 9, plane_epoch=1)) == ["generation_rises"]
    assert rules(tables, who, desired=desired(signer, 5, plane_epoch=2)) == []
    assert rules(tables, who, desired=desired(signer, 4, plane_epoch=2)) == ["generation_rises"]
    assert rules(tables, who, desired=desired(signer, 1, plane_epoch=3)) == []


def test_a_new_signing_key_comes_with_the_key_set(disk: StateDir) -> None:
    """The old key vouches for the new one, also when both tables come at once."""
    old, new = Signer("old"), Signer("new")
    tables = Tables(disk)
    keys = old.table(
        "keyset",
        KeySetHeader(signing_keys=old.public | new.public),
        {},
        audience=CLUSTER_ID,
        generation=1,
    )
    assert rules(tables, identity(old), desired=desired(new, 1)) == ["envelope_key"]
    assert rules(tables, identity(old), desired=desired(new, 1), keyset=update(keys)) == []
    assert tables.signing_keys() == old.public | new.public


def test_a_missing_entry_asks_for_the_whole_table(disk: StateDir) -> None:
    """From generation 0, until it has come; what was held stays in force."""
    signer = Signer()
    tables = Tables(disk)
    who = identity(signer)
    assert rules(tables, who, desired=desired(signer, 1)) == []
    whole = desired(signer, 2, assignment())
    torn = msgspec.structs.replace(whole, entries={})
    assert rules(tables, who, desired=torn) == ["table_incomplete"]
    assert (tables.wanted_from["desired"], tables.held_generations["desired"]) == (0, 1)
    assert rules(tables, who, desired=whole) == []
    assert tables.wanted_from["desired"] == 2


@pytest.mark.parametrize(
    "bounds", [{"min_replicas": -1}, {"min_replicas": 3, "max_replicas": 2}, {"concurrency_target": 0.0}]
)
def test_numbers_that_nothing_can_be_decided_with_are_refused(disk: StateDir, bounds: dict[str, Any]) -> None:
    """Signed or not: the table in force stays."""
    signer = Signer()
    tables = Tables(disk)
    assert rules(tables, identity(signer), desired=desired(signer, 1, assignment(**bounds))) == [
        "table_shape"
    ]
    assert tables.desired is None


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_or_forged_files_are_never_used(disk: StateDir, data: st.DataObject) -> None:
    """Cut off or with any bit flipped, also where whoever did it has mended the checksum: refused, or it says what it
    said before."""
    signer = Signer()
    genuine = signer.table(
        "desired", HEADER, {"a-1": assignment()}, audience=CLUSTER_ID, generation=3, plane_epoch=2
    )
    disk.write_table("desired", genuine)
    path = disk.path / "tables" / "desired.json"
    raw = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw = raw[:position]
    else:
        raw[position] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        content = bytes(raw[_CHECKSUM_BYTES:])
        raw = bytearray(b"sha256 " + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    path.write_bytes(raw)
    tables = Tables(disk)
    with structlog.testing.capture_logs() as logs:
        tables.load(identity(signer, plane_epoch=2))
    held = tables.held("desired")
    if held is None:
        said = " ".join(str(line.get("reason")) for line in logs)
        assert said.strip(), "whoever reads the log is told why"
    else:
        assert (held.generation, held.plane_epoch, held.entries) == (3, 2, genuine.entries)
        assert held.contents() == genuine.contents()


def test_an_older_epoch_is_refused_also_where_nothing_is_held(disk: StateDir) -> None:
    """All tables were lost from the disk, and an old control plane is the first to answer: what was heard counts."""
    signer = Signer()
    tables = Tables(disk)
    assert rules(tables, identity(signer, plane_epoch=3), desired=desired(signer, 9, plane_epoch=2)) == [
        "generation_rises"
    ]
    assert tables.held("desired") is None
