"""Tables are put in force only if they are ours, genuine and not older."""

import msgspec
import pytest

from tests.support.gateway import endpoints
from tests.support.tables import AgentState, Signer, api_key, header, revision, route
from workloadplane.gateway.registry import Registry
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.routing import KeySetHeader as _KeySetHeader
from workloadplane.protocol.tables import Table

SIGNER = Signer()
ROUTE = route(revisions=(revision(("c-eu",)),))


def registry(signer: Signer = SIGNER) -> Registry:
    made = Registry()
    made.set_identity(AgentState(directory=None, cluster_id="c-eu", signer=signer).identity())  # type: ignore[arg-type]
    return made


def routing(generation: int = 1, *, audience: str = "c-eu", signer: Signer = SIGNER) -> Table:
    return signer.routing(header("c-eu"), [ROUTE], audience=audience, generation=generation)


def test_a_genuine_table_is_in_force() -> None:
    """Routes and keys of verified tables are found by project and name."""
    made = registry()
    assert made.not_ready_because() == [
        "no verified key set",
        "no verified routing table",
    ]
    assert made.adopt_table("keyset", SIGNER.keyset([api_key("sk")], audience="c-eu")) is None
    assert made.adopt_table("routing", routing()) is None
    assert made.route("project-1", "chat") == ROUTE
    assert made.route("project-2", "chat") is None
    assert made.not_ready_because() == ["neither a ready replica nor a peer"]
    made.adopt_endpoints(endpoints(1, 8000))
    assert made.not_ready_because() == []


def tampered() -> Table:
    table = routing()
    entry = msgspec.json.encode(route(revisions=(revision(("c-evil",)),)))
    return Table(manifest=table.manifest, entries=dict.fromkeys(table.entries, entry))


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        (routing(2, signer=Signer()), "envelope_signature"),
        (routing(2, signer=Signer(key_id="other")), "envelope_key"),
        (routing(2, audience="c-us"), "envelope_audience"),
        (tampered(), "table_incomplete"),
        (SIGNER.keyset([], audience="c-eu", generation=2), "envelope_kind"),
    ],
)
def test_a_false_table_changes_nothing(table: Table, rule: str) -> None:
    """Forged, foreign, changed or misnamed: refused by its rule, and the one in force stays."""
    made = registry()
    assert made.adopt_table("routing", routing()) is None
    refusal = made.adopt_table("routing", table)
    assert isinstance(refusal, Refusal)
    assert refusal.rule == rule
    assert made.route("project-1", "chat") == ROUTE
    assert made.generation("routing") == 1


def test_older_generations_are_refused_naming_the_one_held() -> None:
    """Tables and replica sets only go forward."""
    made = registry()
    made.adopt_table("routing", routing(5))
    refusal = made.adopt_table("routing", routing(4))
    assert refusal is not None
    assert "generation 5" in refusal.remedy
    made.adopt_endpoints(endpoints(3, 8000))
    refusal = made.adopt_endpoints(endpoints(2))
    assert refusal is not None
    assert "3" in refusal.remedy
    assert len(made.endpoints) == 1


def test_signing_keys_rotate_through_the_key_set() -> None:
    """A key that a verified key set names may sign the tables after it."""
    new = Signer(key_id="plane-2")
    made = registry()
    rotating = SIGNER.table(
        "keyset",
        msgspec.convert({"signing_keys": {**SIGNER.public, **new.public}}, type=_KeySetHeader),
        {},
        audience="c-eu",
        generation=1,
    )
    assert made.adopt_table("routing", routing(1, signer=new)) is not None
    assert made.adopt_table("keyset", rotating) is None
    assert made.adopt_table("routing", routing(1, signer=new)) is None


def test_another_clusters_tables_are_dropped() -> None:
    """When the agent becomes another cluster, nothing of the old one is served."""
    made = registry()
    made.adopt_table("routing", routing())
    made.set_identity(AgentState(directory=None, cluster_id="c-us", signer=SIGNER).identity())  # type: ignore[arg-type]
    assert made.route("project-1", "chat") is None
