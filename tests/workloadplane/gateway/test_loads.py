"""What a cluster says of itself, what it believes of others, and for how long."""

from time import monotonic

import msgspec
import pytest

from tests.support.tables import endpoint
from workloadplane.gateway.abroad import Abroad
from workloadplane.gateway.loads import HOLDS_S, Loads, decoded, decoded_word, told_request_s
from workloadplane.gateway.queueing.service import Service
from workloadplane.gateway.regions import _Known
from workloadplane.gateway.registry import Registry
from workloadplane.protocol.local import EndpointSet
from workloadplane.routing import PeerFacts, ToPeer
from workloadplane.routing.regions import RevisionLoad

PEERS = {"c-us": PeerFacts("c-us", "us-east", "us", 80.0), "c-jp": PeerFacts("c-jp", "jp", "jp", 200.0)}


class Room:
    """Seven wait, of whom nothing is measured."""

    def waiting(self, deployment_id: str) -> int:
        return 7

    def service(self, deployment_id: str) -> Service | None:
        return None


def registry() -> Registry:
    made = Registry()
    made.adopt_endpoints(
        EndpointSet(
            endpoint_generation=1,
            endpoints=tuple(endpoint(1, replica_id=name, max_in_flight=4) for name in ("a", "b")),
        )
    )
    made.in_flight.update({"a": 3, "b": 2, "of another": 9})
    return made


def test_a_sibling_counts_until_it_is_silent() -> None:
    """Its requests are added to ours; two seconds after its last word they are not."""
    loads, now_s = Loads(), monotonic()
    alone = loads.here(registry(), Room(), now_s)["chat-1"]
    assert alone == RevisionLoad(ready=2, seats=8, in_flight=5, waiting=7)
    loads.heard(1, msgspec.json.encode({"chat-1": alone, "unknown here": alone}))
    both = loads.here(registry(), Room(), monotonic())
    assert both == {"chat-1": RevisionLoad(ready=2, seats=8, in_flight=10, waiting=14)}
    assert loads.here(registry(), Room(), monotonic() + HOLDS_S + 1)["chat-1"] == alone


def test_what_peers_measured_is_told_of_the_revisions_asked_for() -> None:
    """The mean of those that have measured; of another deployment's revisions, or of the silent, nothing."""
    told = {"chat-1": RevisionLoad(ready=1, request_s=4.0), "other-1": RevisionLoad(ready=1, request_s=99.0)}
    peers = [
        *PEERS.values(),
        PeerFacts("c-uk", "uk", "uk", 9.0, loads=told),
        PeerFacts("c-fr", "fr", "eu", 9.0, loads={"chat-2": RevisionLoad(ready=1, request_s=2.0)}),
        PeerFacts("c-de", "de", "eu", 9.0, loads={"chat-1": RevisionLoad(ready=1)}),
    ]
    assert told_request_s(peers, {"chat-1", "chat-2"}) == 3.0
    assert told_request_s(peers, {"chat-3"}) is None
    assert told_request_s(PEERS.values(), {"chat-1"}) is None


def test_speed_is_measured_on_long_prompts_and_forgotten() -> None:
    """Bytes by seconds, the latest weigh most; short prompts tell nothing; after two minutes nobody has measured."""
    loads = Loads()

    def speed() -> float:
        return loads.own(registry(), Room())["chat-1"].prefill_bytes_per_s

    loads.computed("chat-1", 1_000, 1.0, 0.0)
    assert speed() == 0.0
    loads.computed("chat-1", 100_000, 1.0, 0.0)
    assert speed() == 100_000.0
    for _ in range(60):
        loads.computed("chat-1", 10_000, 1.0, 10.0)
    assert speed() == pytest.approx(10_000, rel=0.05)
    loads.sweep(100.0)
    assert speed() > 0.0
    loads.sweep(131.0)
    assert speed() == 0.0


@pytest.mark.parametrize(
    "told",
    [
        b"", b"[]", b'{"r":{}}', b'{"r":{"ready":-1}}', b'{"r":{"ready":1,"waiting":-2}}',
        b'{"r":{"ready":1,"request_s":1e999}}', b'{"r":{"ready":1,"prefill_bytes_per_s":-1}}',
        b"{" + b",".join(b'"r%d":{"ready":1}' % n for n in range(4097)) + b"}",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_not_believed(told: bytes) -> None:
    """Neither wrong shapes nor numbers that can't be, nor more than is bounded."""
    assert decoded(told) is None


@pytest.mark.parametrize(
    "told",
    [
        b"", b"{}", b'{"ready":1,"loads":{}}', b'{"ready":true,"loads":{"r":{"ready":-1}}}',
        b'{"ready":true,"loads":{},"seen":{"c":{"verdict":"dead","silent_s":1}}}',
        b'{"ready":true,"loads":{},"seen":{"c":{"verdict":"lost","silent_s":-1}}}',
        b'{"ready":true,"loads":{},"seen":{"c":{"verdict":"lost","silent_s":1e999}}}',
        b'{"ready":true,"loads":{},"seen":{'
        + b",".join(b'"c%d":{"verdict":"alive","silent_s":1}' % n for n in range(1025)) + b"}}",
    ],
)  # fmt: skip
def test_a_peers_word_that_makes_no_sense_is_not_believed(told: bytes) -> None:
    """Unknown verdicts, silences that can't be, more peers than anybody has."""
    assert decoded_word(told) is None


def test_the_round_trip_is_the_least_of_a_while() -> None:
    """A busy moment doesn't make a peer far; a way that has become longer is known when the window is over."""
    known = _Known()
    for now_s, took_ms in ((0.0, 80.0), (1.0, 300.0), (2.0, 95.0)):
        known.took(took_ms, now_s)
    assert known.rtt_ms == 80.0
    known.took(200.0, 15.5)
    assert known.rtt_ms == 95.0
    known.took(200.0, 30.0)
    assert known.rtt_ms == 200.0


def test_what_peers_hold_is_known_by_what_they_answered() -> None:
    """The longest beginning counts for each; deployments and peers that are no more are forgotten."""
    abroad = Abroad()
    abroad.served("d", "c-us", (1, 2, 3, 4), 0.0)
    abroad.served("d", "c-jp", (1, 2, 9), 1.0)
    known = abroad.known("d", (1, 2, 3, 4, 5))
    assert known is not None
    assert known["c-us"] > known["c-jp"] > 0
    assert abroad.known("d", (7, 8)) is None
    assert abroad.known("other", (1, 2)) is None
    abroad.sweep({"d"}, PEERS)
    assert abroad.known("d", (1, 2)) == {"c-us": known["c-jp"], "c-jp": known["c-jp"]}
    abroad.sweep({"d"}, {"c-jp"})
    assert abroad.known("d", (1, 2)) is None
    abroad.served("d", "c-jp", (1, 2), 2.0)
    abroad.sweep((), PEERS)
    assert abroad.known("d", (1, 2)) is None


def test_memory_of_what_peers_hold_is_bounded() -> None:
    """The longest unused deployment is forgotten first."""
    abroad = Abroad(blocks_max=100)
    for number in range(3):
        abroad.served(f"d{number}", "c-us", range(number * 1000, number * 1000 + 60), float(number))
    abroad.sweep({"d0", "d1", "d2"}, PEERS)
    held = [abroad.known(f"d{number}", (number * 1000,)) is not None for number in range(3)]
    assert held == [False, False, True]


def test_what_was_sent_counts_until_the_peer_speaks() -> None:
    """By revision; a peer that is no more counts nothing."""
    abroad = Abroad()
    for cluster_id in ("c-us", "c-us", "c-gone"):
        abroad.sent(PEERS, ToPeer(cluster_id, may_hold=False, reasons=(), revision_id="r1"))
    assert PEERS["c-us"].sent == {"r1": 2}
    assert PEERS["c-jp"].sent == {}
