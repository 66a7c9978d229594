"""What a greedy tenant does to the others, in a simulated cluster with the real queue."""

import pytest

from tests.workloadplane.gateway.queueing.fair_world import (
    CAPACITY_PER_S,
    GREEDY,
    OUTPUT_TOKENS_MEAN,
    PLACE,
    TENANTS,
    World,
    rates,
)
from workloadplane.gateway.queueing import LOW, NORMAL, Bounds, Joined, Ticket, WaitingRoom
from workloadplane.gateway.queueing.preemption import PREEMPTIONS_MAX


@pytest.mark.parametrize("load", [0.5, 0.8, 0.9])
def test_a_tenant_at_100_times_its_share_hardly_moves_the_others(load: float) -> None:
    """Their P99 TTFT rises by less than a fifth, none of them is refused, and next to nothing is lost by it."""
    calm = World(rates(load), 400)
    greedy = World(rates(load, greed=100), 400)
    assert greedy.p99_s() < 1.2 * calm.p99_s()
    assert set(greedy.refused) <= {GREEDY}
    assert greedy.refused[GREEDY] > 3_000
    assert greedy.preemptions > 400
    assert greedy.preemptions_of_one <= PREEMPTIONS_MAX
    assert greedy.throughput() > 0.95


def test_the_order_alone_would_not_do_at_half_load() -> None:
    """Where seats were free before, everybody would wait for one to end: so seats are taken back."""
    calm = World(rates(0.5), 400, preempts=False)
    greedy = World(rates(0.5, greed=100), 400, preempts=False)
    assert greedy.p99_s() > 5 * calm.p99_s()


def test_first_come_first_served_would_let_the_greedy_one_have_its_way() -> None:
    """The same world with one line for everybody: the others wait over five times as long and are refused."""
    calm = World(rates(0.9), 600)
    unfair = World(rates(0.9, greed=100), 600, fair=False)
    assert unfair.p99_s() > 5 * calm.p99_s()
    assert set(unfair.refused) == set(rates(0.9))


def test_tenants_that_all_want_more_get_the_same_tokens() -> None:
    """Whatever they send: at twice and at twenty times its share a tenant gets one tenth."""
    wanted = {f"t{number}": CAPACITY_PER_S / TENANTS * (2 if number % 2 else 20) for number in range(TENANTS)}
    world = World(wanted, 600)
    total = sum(world.tokens.values())
    assert all(abs(tokens / total - 0.1) < 0.01 for tokens in world.tokens.values())


def test_what_no_other_wants_a_tenant_may_have() -> None:
    """Fairness leaves no seat empty: a tenant alone gets everything, and nobody is refused for being greedy."""
    world = World({"t0": CAPACITY_PER_S * 0.95}, 600)
    assert not world.refused
    assert sum(world.tokens.values()) > 0.9 * CAPACITY_PER_S * 600 * OUTPUT_TOKENS_MEAN


def test_low_priority_is_shed_first() -> None:
    """In a full room a normal request takes the place of a low one, never the other way round."""
    room: WaitingRoom[str] = WaitingRoom(
        Bounds(requests_max=3, bytes_max=1000, project_requests_max=3, project_bytes_max=1000)
    )

    def join(name: str, tenant: str, priority: int) -> str | None:
        joined = room.join(PLACE, Ticket(name, tenant, priority, 1.0, 10), now_s=0, until_s=180)
        if not isinstance(joined, Joined):
            return joined.rule
        return joined.displaced.item if joined.displaced else None

    assert [join(f"low {n}", "a", LOW) for n in range(3)] == [None] * 3
    assert join("normal 0", "a", NORMAL) == "low 2"
    assert join("normal 1", "b", NORMAL) == "low 1"
    assert join("low 3", "b", LOW) == "queue_full"
    assert join("normal 2", "c", NORMAL) == "low 0"
    assert join("normal 3", "c", NORMAL) == "queue_full", "everybody has one: first come, first served"
