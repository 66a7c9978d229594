"""What a peer says is believed only if that peer said it, to us, just now."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.tables import raw_public_key
from workloadplane.gateway.peers import (
    CLOCK_SKEW_S,
    LIFETIME_S,
    PeerStatement,
    is_answer_of,
    sign,
    sign_answer,
    verify,
)
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.routing import Peer

KEY = Ed25519PrivateKey.generate()
NOW = 1_760_000_000.0
STATEMENT = PeerStatement(
    sender="c-jp",
    audience="c-eu",
    expires_at=NOW + LIFETIME_S,
    request_id="req-1",
    api_key_id="key-1",
    origin_region="ap-northeast",
    residency=("eu",),
    may_hold=False,
)
PEER = Peer(
    cluster_id="c-jp",
    cluster_name="jp",
    region="ap-northeast",
    jurisdiction="jp",
    url="http://127.0.0.1:1",
    public_key=raw_public_key(KEY),
    rtt_ms=200,
)


def verified(value: bytes, *, audience: str = "c-eu", now: float = NOW) -> PeerStatement | Refusal:
    return verify(value, audience=audience, now=now, peer={"c-jp": PEER}.get)


def test_a_true_statement_is_believed_within_the_clocks_difference() -> None:
    """A peer's statement arrives as it was made, also where clocks differ by five minutes."""
    value = sign(STATEMENT, KEY)
    for now in (NOW, NOW - 300, NOW + 300):
        assert verified(value, now=now) == STATEMENT


def test_any_flipped_bit_is_noticed() -> None:
    """No byte of the header can be changed."""
    value = sign(STATEMENT, KEY)
    for place in range(len(value)):
        changed = bytes([*value[:place], value[place] ^ 1, *value[place + 1 :]])
        result = verified(changed)
        assert isinstance(result, Refusal) or (result == STATEMENT and place == len(value) - 1)


@pytest.mark.parametrize(
    ("case", "value", "audience", "now"),
    [
        ("another key", sign(STATEMENT, Ed25519PrivateKey.generate()), "c-eu", NOW),
        ("another audience", sign(STATEMENT, KEY), "c-us", NOW),
        ("expired", sign(STATEMENT, KEY), "c-eu", NOW + LIFETIME_S + CLOCK_SKEW_S),
        ("far ahead", sign(STATEMENT, KEY), "c-eu", NOW - CLOCK_SKEW_S - 1),
        ("unknown peer", sign(msgspec.structs.replace(STATEMENT, sender="c-x"), KEY), "c-eu", NOW),
        ("another version", b"v2" + sign(STATEMENT, KEY)[2:], "c-eu", NOW),
        ("empty", b"", "c-eu", NOW),
        ("no signature", sign(STATEMENT, KEY).rpartition(b".")[0], "c-eu", NOW),
        ("not base64", b"v1.!!!.!!!", "c-eu", NOW),
        ("not a statement", b"v1.e30.e30", "c-eu", NOW),
        ("too long", sign(STATEMENT, KEY) + b"A" * 5000, "c-eu", NOW),
        ("two lines", sign(msgspec.structs.replace(STATEMENT, hold_mark="a\n\ndata: b"), KEY), "c-eu", NOW),
    ],
)
def test_what_is_not_true_is_refused(case: str, value: bytes, audience: str, now: float) -> None:
    """Each lie is refused by a rule that names the header."""
    result = verified(value, audience=audience, now=now)
    assert isinstance(result, Refusal)
    assert result.rule == "peer_statement"


def test_an_answer_belongs_to_its_question() -> None:
    """Only this peer's answer to this question is one: no other body, question, key, nor a broken signature."""
    question, other = sign(STATEMENT, KEY), sign(msgspec.structs.replace(STATEMENT, request_id="req-2"), KEY)
    proof = sign_answer(question, b"{}", KEY)
    assert is_answer_of(PEER, question, b"{}", proof)
    assert not is_answer_of(PEER, question, b"{} ", proof)
    assert not is_answer_of(PEER, other, b"{}", proof)
    assert not is_answer_of(PEER, question, b"{}", sign_answer(question, b"{}", Ed25519PrivateKey.generate()))
    for broken in (b"", b"!!!", proof[:-4], question):
        assert not is_answer_of(PEER, question, b"{}", broken)
