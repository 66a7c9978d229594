"""Who may serve now: the rules of handing over, one by one. Their whole is in ``test_takeover``."""

import math

from controlplane.failover import Seat, Standing, Yielding, seat_fenced, seat_settle

LEASE_S = 7.0
CLUSTERS = ("a", "b", "c")


def settle(seat: Seat, wanted: str | None, **standings: Standing) -> Seat:
    known = dict.fromkeys(CLUSTERS, Standing()) | standings
    return seat_settle(seat, wanted, known, lease_s=LEASE_S)


def test_the_first_one_serves_at_once() -> None:
    """Nobody served before, so nobody is waited for."""
    assert settle(Seat(), "a") == Seat("a")
    assert settle(Seat("a"), "a") == Seat("a")


def test_the_next_one_waits_for_the_table_to_be_in_force() -> None:
    """While the old one is heard, only its gateways' acknowledgement of that very table counts."""
    waiting = settle(Seat("a"), "b")
    assert waiting == Seat(None, (Yielding("a", None, leased=True),))
    compiled = Seat(None, (Yielding("a", 7, leased=True),))
    assert settle(compiled, "b", a=Standing(gateways_hold=6)) == compiled
    assert settle(compiled, "b", a=Standing(gateways_hold=7)) == Seat("b")


def test_a_dead_one_is_waited_for_until_its_lease_is_over() -> None:
    """The margin included; one that was never heard has no lease; one that was retired or removed neither."""
    compiled = Seat(None, (Yielding("a", 7, leased=True),))
    assert settle(compiled, "b", a=Standing(silent_s=6.9)) == compiled
    assert settle(compiled, "b", a=Standing(silent_s=7.0)) == Seat("b")
    assert settle(compiled, "b", a=Standing(silent_s=math.inf)) == Seat("b")
    assert settle(compiled, "b", a=Standing(gone=True)) == Seat("b")
    assert seat_settle(compiled, "b", {}, lease_s=LEASE_S) == Seat("b")
    assert settle(Seat("a"), "b", a=Standing(gone=True)) == Seat("b")
    assert settle(Seat("a"), "b", a=Standing(silent_s=99.0)).serving is None, (
        "it may be heard this very moment"
    )
    unmade = Seat(None, (Yielding("a", None, leased=True),))
    assert settle(unmade, "b", a=Standing(silent_s=99.0)) == unmade, "no table says so yet"


def test_after_a_restore_every_cluster_yields_first() -> None:
    """Whoever was promoted after the back-up serves by a table that the database does not know."""
    fenced = seat_fenced(("b", "a"))
    assert [row.cluster_id for row in fenced.yielding] == ["a", "b"]
    made = Seat(None, (Yielding("a", 7, leased=True), Yielding("b", 7, leased=True)))
    assert settle(made, "a", a=Standing(gateways_hold=7)).serving is None
    assert settle(made, "a", b=Standing(gateways_hold=7)) == Seat("a"), "it need not wait for itself"


def test_what_served_beside_others_is_not_ended_by_a_lease() -> None:
    """A table of active_active has none: its holder must acknowledge."""
    compiled = Seat(None, (Yielding("a", 7, leased=False),))
    assert settle(compiled, "b", a=Standing(silent_s=99.0)) == compiled
    assert settle(compiled, "b", a=Standing(gateways_hold=8)) == Seat("b")


def test_one_that_is_called_back_need_not_wait_for_itself() -> None:
    """Nobody else has served meanwhile."""
    assert settle(Seat(None, (Yielding("a", 7, leased=True),)), "a") == Seat("a")
    two = Seat(None, (Yielding("a", 7, leased=True), Yielding("b", 7, leased=True)))
    assert settle(two, "a") == two
