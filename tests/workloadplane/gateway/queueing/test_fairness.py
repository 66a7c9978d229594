"""What a greedy tenant does to the others, in a simulated cluster with the real queue."""

from collections import defaultdict
from heapq import heappop, heappush
from random import Random

import pytest

from workloadplane.gateway.queueing import LOW, NORMAL, Bounds, Joined, Place, Ticket, WaitingRoom

SEATS = 32
TOKEN_S = 0.02
OUTPUT_TOKENS_MEAN = 200
PREFILL_S = 0.2
CAPACITY_PER_S = SEATS / (PREFILL_S + OUTPUT_TOKENS_MEAN * TOKEN_S)
TENANTS = 10
PLACE = Place("chat", "project", SEATS, True)


class World:
    """Tenants send at a rate each; ``ttft_s`` by tenant is what they see. Times in simulated seconds."""

    def __init__(
        self, rates_per_s: dict[str, float], seconds: float, *, fair: bool = True, seed: int = 1
    ) -> None:
        self.ttft_s: dict[str, list[float]] = defaultdict(list)
        self.refused: dict[str, int] = defaultdict(int)
        self.tokens: dict[str, float] = defaultdict(float)
        self._rates = rates_per_s
        self._seconds = seconds
        self._fair = fair
        self._rngs = {tenant: Random(f"{seed} {tenant}") for tenant in rates_per_s}
        self._events: list[tuple[float, int, str, Ticket[tuple[str, float, int]] | None]] = []
        self._number = 0
        self._free = SEATS
        self._room: WaitingRoom[tuple[str, float, int]] = WaitingRoom(
            Bounds(requests_max=500, bytes_max=10**9, project_requests_max=500, project_bytes_max=10**9)
        )
        for tenant, rate_per_s in rates_per_s.items():
            self._push(self._rngs[tenant].expovariate(rate_per_s), tenant, None)
        while self._events:
            self._step()

    def _push(self, at_s: float, tenant: str, ended: "Ticket[tuple[str, float, int]] | None") -> None:
        self._number += 1
        heappush(self._events, (at_s, self._number, tenant, ended))

    def _step(self) -> None:
        now_s, _, tenant, ended = heappop(self._events)
        if ended is not None:
            self._free += 1
            made = ended.item[2]
            self._room.settle("chat", ended, 100 + 2 * made, PREFILL_S + made * TOKEN_S, made)
        elif now_s < self._seconds:
            self._arrive(now_s, tenant)
        while self._free and (due := self._room.peek("chat")) is not None:
            self._room.take("chat", due, now_s)
            self._send(due, now_s)

    def _arrive(self, now_s: float, tenant: str) -> None:
        rng = self._rngs[tenant]
        self._push(now_s + rng.expovariate(self._rates[tenant]), tenant, None)
        made = max(1, round(rng.expovariate(1 / OUTPUT_TOKENS_MEAN)))
        expected = 100 + 2 * OUTPUT_TOKENS_MEAN
        queued_as = tenant if self._fair else "everybody"
        ticket = Ticket((tenant, now_s, made), queued_as, NORMAL, float(expected), 1000)
        if self._free and not self._room.waits("chat"):
            self._room.pass_through("chat", "project", ticket)
            self._send(ticket, now_s)
            return
        joined = self._room.join(PLACE, ticket, now_s=now_s, until_s=now_s + 180)
        if not isinstance(joined, Joined):
            self.refused[tenant] += 1
        elif joined.displaced is not None:
            self.refused[joined.displaced.item[0]] += 1

    def _send(self, ticket: "Ticket[tuple[str, float, int]]", now_s: float) -> None:
        tenant, came_s, made = ticket.item
        self._free -= 1
        self.ttft_s[tenant].append(now_s - came_s + PREFILL_S)
        self.tokens[tenant] += made
        self._push(now_s + PREFILL_S + made * TOKEN_S, tenant, ticket)

    def p99_s(self) -> float:
        """Of all tenants but the first one, who may be greedy."""
        seen = sorted(s for tenant, all_s in self.ttft_s.items() if tenant != "t0" for s in all_s)
        return seen[int(len(seen) * 0.99)]


def rates(load: float, greed: float = 1.0) -> dict[str, float]:
    """Every tenant at ``load`` of its share of the capacity, the first one at ``greed`` times that."""
    each = load * CAPACITY_PER_S / TENANTS
    return {f"t{number}": each * (greed if number == 0 else 1.0) for number in range(TENANTS)}


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_a_tenant_at_100_times_its_share_hardly_moves_the_others(seed: int) -> None:
    """Where each uses nine tenths of its share, their P99 TTFT rises by less than a fifth, none is refused."""
    calm = World(rates(0.9), 1200, seed=seed)
    greedy = World(rates(0.9, greed=100), 1200, seed=seed)
    assert greedy.p99_s() < 1.2 * calm.p99_s()
    assert set(greedy.refused) <= {"t0"}
    assert greedy.refused["t0"] > 10_000


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
