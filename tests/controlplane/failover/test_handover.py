"""Who may serve now: never two, whatever is lost, late or called back."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controlplane.failover import Seat, Standing, Yielding, seat_settle

TTL_S = 8.0  # what gateways go by
LEASE_S = 10.0  # what the control plane goes by
CLUSTERS = ("a", "b", "c")


def settle(seat: Seat, wanted: str | None, now_s: float = 100.0, **standings: Standing) -> Seat:
    known = dict.fromkeys(CLUSTERS, Standing(heard_at_s=100.0)) | standings
    return seat_settle(seat, wanted, known, now_s=now_s, lease_s=LEASE_S)


def test_the_first_one_serves_at_once() -> None:
    """Nobody served before, so nobody is waited for."""
    assert settle(Seat(), "a") == Seat("a")
    assert settle(Seat("a"), "a") == Seat("a")


def test_the_next_one_waits_for_the_table_to_be_in_force() -> None:
    """While the old one is heard, only its gateways' acknowledgement of that very table counts."""
    waiting = settle(Seat("a"), "b")
    assert waiting == Seat(None, (Yielding("a", None, leased=True),))
    compiled = Seat(None, (Yielding("a", 7, leased=True),))
    assert settle(compiled, "b", a=Standing(gateways_hold=6, heard_at_s=99.0)) == compiled
    assert settle(compiled, "b", a=Standing(gateways_hold=7, heard_at_s=99.0)) == Seat("b")


def test_a_dead_one_is_waited_for_until_its_lease_is_over() -> None:
    """The margin included; one that was never heard has no lease; one that was retired or removed neither."""
    compiled = Seat(None, (Yielding("a", 7, leased=True),))
    assert settle(compiled, "b", a=Standing(heard_at_s=90.0)) == compiled
    assert settle(compiled, "b", a=Standing(heard_at_s=89.9)) == Seat("b")
    assert settle(compiled, "b", a=Standing()) == Seat("b")
    assert settle(compiled, "b", a=Standing(heard_at_s=100.0, gone=True)) == Seat("b")
    assert seat_settle(compiled, "b", {}, now_s=100.0, lease_s=LEASE_S) == Seat("b")
    assert settle(Seat("a"), "b", a=Standing(gone=True)) == Seat("b")
    assert settle(Seat("a"), "b", a=Standing(heard_at_s=0.0)).serving is None, (
        "it may be heard this very moment"
    )


def test_what_served_beside_others_is_not_ended_by_a_lease() -> None:
    """A table of active_active has none: its holder must acknowledge."""
    compiled = Seat(None, (Yielding("a", 7, leased=False),))
    assert settle(compiled, "b", a=Standing(heard_at_s=0.0)) == compiled
    assert settle(compiled, "b", a=Standing(gateways_hold=8)) == Seat("b")


def test_one_that_is_called_back_need_not_wait_for_itself() -> None:
    """Nobody else has served meanwhile."""
    assert settle(Seat(None, (Yielding("a", 7, leased=True),)), "a") == Seat("a")
    two = Seat(None, (Yielding("a", 7, leased=True), Yielding("b", 7, leased=True)))
    assert settle(two, "a") == two


class Handover(RuleBasedStateMachine):
    """Three clusters whose gateways hear late or never, and a control plane that changes its mind."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.seat = Seat()
        self.generation = 1
        self.made: dict[int, str | None] = {1: None}  # generation -> the cluster it lets serve
        self.held = dict.fromkeys(CLUSTERS, 1)  # at the gateways
        self.said = dict.fromkeys(CLUSTERS, 1)  # what the control plane was told of that
        self.heard_s = dict.fromkeys(CLUSTERS, 1000.0)  # by the control plane
        self.lease_s = dict.fromkeys(CLUSTERS, 1000.0)  # as the gateways know it

    @rule(wanted=st.sampled_from((*CLUSTERS, None)))
    def compile(self, wanted: str | None) -> None:
        standings = {name: Standing(self.said[name], self.heard_s[name]) for name in CLUSTERS}
        self.seat = seat_settle(self.seat, wanted, standings, now_s=self.now_s, lease_s=LEASE_S)
        if self.seat.serving != self.made[self.generation]:
            self.generation += 1
            self.made[self.generation] = self.seat.serving
        self.seat = replace(
            self.seat,
            yielding=tuple(
                row if row.generation is not None else replace(row, generation=self.generation)
                for row in self.seat.yielding
            ),
        )

    @rule(name=st.sampled_from(CLUSTERS), answered=st.booleans())
    def call_home(self, name: str, answered: bool) -> None:
        """The call is heard; if its answer arrives, gateways have its table before they hear of the lease."""
        self.heard_s[name] = self.now_s
        self.said[name] = self.held[name]
        if answered:
            self.held[name] = self.generation
            self.lease_s[name] = self.now_s

    @rule(passes_s=st.floats(0.1, 12.0))
    def wait(self, passes_s: float) -> None:
        self.now_s += passes_s

    @invariant()
    def never_do_two_serve(self) -> None:
        serving = [
            name
            for name in CLUSTERS
            if self.made[self.held[name]] == name and self.now_s - self.lease_s[name] <= TTL_S
        ]
        assert len(serving) <= 1, f"{serving} serve at once"

    @invariant()
    def who_serves_keeps_nobody_waiting(self) -> None:
        assert self.seat.serving is None or not self.seat.yielding


TestHandover = Handover.TestCase
TestHandover.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
