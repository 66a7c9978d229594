"""The wire of version 1, byte for byte: what is in ``tests/wire/v1`` was sent once and must be understood for ever.

A sample is never changed. A field may be added with a default; then these tests go on passing. To freeze a
new message, add its value to ``tests/support/wire_samples.py`` and run this file as a program: it writes
samples that are missing and touches no other.
"""

from pathlib import Path

import msgspec
import pytest

from tests.support.wire_samples import SAMPLES
from workloadplane.protocol import desired, envelope, local, observed, refusal, routing, sync, tables, usage
from workloadplane.protocol.envelope import signed_bytes
from workloadplane.protocol.observed import observed_hash

V1 = Path(__file__).parents[2] / "wire" / "v1"
_REQUEST = SAMPLES["sync_request"]
assert isinstance(_REQUEST, sync.SyncRequest)
assert _REQUEST.observed is not None
_REPLICA = _REQUEST.observed.replicas[0]
MODULES = (desired, envelope, local, observed, refusal, routing, sync, tables, usage)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_frozen_sample_still_says_what_it_said(name: str) -> None:
    """Decoded it is the same value: no field was renamed, retyped, removed or became required."""
    frozen = (V1 / f"{name}.json").read_bytes()
    assert msgspec.json.decode(frozen, type=type(SAMPLES[name])) == SAMPLES[name]


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_what_is_sent_now_holds_all_that_version_1_sent(name: str) -> None:
    """Every field of the sample is encoded as it was, so that an older reader understands a newer writer."""
    frozen = msgspec.json.decode((V1 / f"{name}.json").read_bytes())
    assert _kept(frozen, msgspec.json.decode(msgspec.json.encode(SAMPLES[name]))) == frozen


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_unknown_fields_are_passed_over(name: str) -> None:
    """A sender one version newer may say more."""
    newer = msgspec.json.decode((V1 / f"{name}.json").read_bytes())
    newer["said_by_a_newer_version"] = {"deep": [1, None]}
    assert msgspec.json.decode(msgspec.json.encode(newer), type=type(SAMPLES[name])) == SAMPLES[name]


def test_every_message_has_a_sample() -> None:
    """A struct that is written on a connection or a disk occurs in at least one sample."""
    sampled: set[type] = set()
    for value in SAMPLES.values():
        _collect(value, sampled)
    declared = {
        struct
        for module in MODULES
        for struct in vars(module).values()
        if isinstance(struct, type)
        and issubclass(struct, msgspec.Struct)
        and struct.__module__ == module.__name__
    }
    assert {struct.__name__ for struct in declared - sampled} == set()


def test_signatures_cover_the_same_bytes_as_ever() -> None:
    """A table signed by version 1 verifies in every later one."""
    assert (
        signed_bytes(
            kind="desired", payload=b"{}", key_id="key-1", audience="cluster-1", plane_epoch=2, generation=7
        )
        == b'["meridian-envelope-1","desired","key-1","cluster-1",2,7,2]\n{}'
    )


def test_the_observed_hash_is_frozen() -> None:
    """Both planes, of any two versions, hash the same state alike."""
    assert observed_hash({_REPLICA.replica_id: _REPLICA}) == (V1 / "observed_hash.txt").read_text().strip()


def _kept(frozen: object, current: object) -> object:
    """``current`` cut to the fields that ``frozen`` has."""
    if isinstance(frozen, dict) and isinstance(current, dict):
        return {key: _kept(value, current.get(key)) for key, value in frozen.items()}
    if isinstance(frozen, list) and isinstance(current, list) and len(frozen) == len(current):
        return [_kept(one, other) for one, other in zip(frozen, current, strict=True)]
    return current


def _collect(value: object, into: set[type]) -> None:
    if isinstance(value, msgspec.Struct):
        into.add(type(value))
        for name in value.__struct_fields__:
            _collect(getattr(value, name), into)
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, into)
    elif isinstance(value, tuple):
        for item in value:
            _collect(item, into)


def _freeze_missing() -> None:
    for name, value in SAMPLES.items():
        path = V1 / f"{name}.json"
        if not path.exists():
            path.write_bytes(msgspec.json.encode(value))
    if not (V1 / "observed_hash.txt").exists():
        (V1 / "observed_hash.txt").write_text(observed_hash({_REPLICA.replica_id: _REPLICA}) + "\n")


if __name__ == "__main__":
    _freeze_missing()
