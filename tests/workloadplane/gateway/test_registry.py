"""Tables are put in force only if they are ours, genuine and not older."""

from random import Random

import msgspec
import pytest

from tests.support.gateway import endpoints
from tests.support.tables import AgentState, Signer, api_key, header, revision, route
from workloadplane.gateway.registry import Registry
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.routing import KeySetHeader as _KeySetHeader
from workloadplane.protocol.routing import Peer
from workloadplane.protocol.tables import Table
from workloadplane.routing import Policy, RequestFacts, ToReplica, pick

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


HOUR_S = 3_600.0
DAY_S = 86_400.0


def test_hours_without_the_control_plane_change_nothing_but_what_only_it_can_vouch_for() -> None:
    """On a simulated clock: marked as stale after the soft time-to-live, and serving on; the lease of a pair is over
    after its own; after the last one nothing goes abroad, and this region is served for ever."""
    made = registry()
    peer = Peer(
        cluster_id="c-us",
        cluster_name="us",
        region="us-east",
        jurisdiction="us",
        url="http://127.0.0.1:1",
        public_key=b"x" * 32,
        rtt_ms=80.0,
    )
    told = msgspec.structs.replace(
        header("c-eu", peers=(peer,)), soft_ttl_s=60.0, hard_ttl_s=6.0, forwarding_ttl_s=DAY_S
    )
    pair = route("pair", posture="active_passive", revisions=(revision(("c-eu", "c-us")),))
    both = route(revisions=(revision(("c-eu", "c-us")),))
    made.adopt_table("keyset", SIGNER.keyset([api_key("sk")], audience="c-eu"))
    made.adopt_table("routing", SIGNER.routing(told, [both, pair], audience="c-eu"))
    made.adopt_endpoints(endpoints(1, 8000))
    heard_s = made.plane_heard_s = 5_000.0
    for away_s, stale, leased, abroad in (
        (5.0, False, True, True),
        (7.0, False, False, True),
        (HOUR_S, True, False, True),
        (DAY_S + 1, True, False, False),
        (100 * DAY_S, True, False, False),
    ):
        now_s = heard_s + away_s
        shot = made.snapshot(both, now_s)
        assert [replica.ready for replica in shot.replicas] == [True], "this region is served"
        assert (bool(shot.peers), made.is_plane_stale(now_s)) == (abroad, stale)
        assert made.snapshot(pair, now_s).lease_holds == leased
        assert isinstance(pick(RequestFacts(None, True), shot, Policy(), Random(1)), ToReplica)
        assert made.not_ready_because() == []


def test_of_a_table_from_the_disk_the_time_counts_from_the_start() -> None:
    """A gateway that starts while the control plane is away does not know when the table came."""
    made = registry()
    told = msgspec.structs.replace(header("c-eu"), forwarding_ttl_s=DAY_S)
    made.adopt_table("routing", SIGNER.routing(told, [ROUTE], audience="c-eu"))
    made.loaded_s = 100.0
    assert (made.may_forward(DAY_S), made.may_forward(DAY_S + 101)) == (True, False)
    made.plane_heard_s = DAY_S
    assert made.may_forward(DAY_S + 101)
