"""The order of one deployment's queue: first come first served, fair between tenants, nobody starves."""

from collections import Counter, defaultdict
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workloadplane.gateway.queueing import HIGH, LOW, NORMAL, FairQueue, Ticket
from workloadplane.gateway.queueing.fair_queue import CREDIT_REQUESTS, PASSES_MAX

TENANTS = st.sampled_from(["a", "b", "c", "d"])
CLASSES = st.sampled_from([LOW, NORMAL, HIGH])
COSTS = st.integers(0, 1000).map(float)


def ticket(tenant: str, priority: int = NORMAL, cost: float = 1.0, item: int = 0) -> Ticket[int]:
    return Ticket(item, tenant, priority, cost, 1)


def drained(queue: FairQueue[int]) -> list[Ticket[int]]:
    served = []
    while (each := queue.peek()) is not None:
        queue.take(each)
        served.append(each)
    return served


def test_tenants_share_by_tokens_not_by_requests() -> None:
    """Ten cheap requests of one tenant are worth one dear request of another."""
    queue: FairQueue[int] = FairQueue()
    for _ in range(40):
        queue.join(ticket("dear", cost=100.0))
    for _ in range(400):
        queue.join(ticket("cheap", cost=10.0))
    first = Counter(each.tenant for each in drained(queue)[:220])
    assert abs(first["dear"] - 20) <= 1
    assert abs(first["cheap"] - 200) <= 1


def test_a_newcomer_waits_for_none_of_the_backlog_of_another() -> None:
    """Whoever was served less is next, however long the other one's line is; time unused gives a credit and no more."""
    queue: FairQueue[int] = FairQueue()
    for _ in range(1000):
        queue.join(ticket("greedy", cost=50.0))
    for _ in range(10):
        queue.take(queue.peek())  # type: ignore[arg-type]
    for _ in range(100):
        queue.join(ticket("modest", cost=50.0))
    order = [each.tenant for each in drained(queue)[:60]]
    assert order[: CREDIT_REQUESTS // 4] == ["modest"] * (CREDIT_REQUESTS // 4)
    assert order.count("modest") - order.count("greedy") <= CREDIT_REQUESTS + 2
    late = order[CREDIT_REQUESTS:]
    assert abs(late.count("modest") - late.count("greedy")) <= 2


def test_what_a_request_really_cost_decides_the_next_turn() -> None:
    """One that turned out dear makes its tenant wait until the others have had as much."""
    queue: FairQueue[int] = FairQueue()
    for item in range(3):
        queue.join(ticket("a", cost=10.0, item=item))
        queue.join(ticket("b", cost=10.0, item=item))
    first = queue.peek()
    assert first is not None
    queue.take(first)
    queue.settle(first.tenant, +1000.0)
    other = {"a": "b", "b": "a"}[first.tenant]
    assert [each.tenant for each in drained(queue)] == [other] * 3 + [first.tenant] * 2


def test_those_given_back_go_first_in_the_order_they_came() -> None:
    """A replica that died under three requests gives three back, in any order; then the rest follow."""
    queue: FairQueue[int] = FairQueue()
    for item in range(5):
        queue.join(ticket("a", item=item))
    sent = []
    for _ in range(3):
        due = queue.peek()
        assert due is not None
        queue.take(due)
        sent.append(due)
    for each in (sent[1], sent[2], sent[0]):
        queue.give_back(each)
    assert [each.item for each in drained(queue)] == [0, 1, 2, 3, 4]


def test_a_higher_class_goes_first_but_lets_no_lower_one_starve() -> None:
    """However many of it come, each lower class that waits gets one turn in so many, and no more than that."""
    queue: FairQueue[int] = FairQueue()
    for priority in (LOW, NORMAL):
        for _ in range(10):
            queue.join(ticket("a", priority))
    order = []
    for _ in range(4 * (PASSES_MAX + 2)):
        queue.join(ticket("b", HIGH))
        due = queue.peek()
        assert due is not None
        queue.take(due)
        order.append(due.priority)
    assert order[:PASSES_MAX] == [HIGH] * PASSES_MAX
    for lower in (LOW, NORMAL):
        assert 3 <= order.count(lower) <= 4
        turns = [place for place, priority in enumerate(order) if priority == lower]
        assert max(later - sooner for sooner, later in pairwise(turns)) <= PASSES_MAX + 2


def test_who_steps_aside_loses_nothing_by_it() -> None:
    """Neither its rank, nor its tenant's count, nor how often its class was passed over: else it might starve."""
    queue: FairQueue[int] = FairQueue()
    low = [ticket("low", LOW, item=1), ticket("low", LOW, item=2)]
    for each in low:
        queue.join(each)
    for _ in range(PASSES_MAX):
        queue.join(ticket("high", HIGH))
        due = queue.peek()
        assert due is not None
        assert due.tenant == "high"
        queue.take(due)
        served = queue.served("low")
        for each in low:
            queue.step_aside(each)
        for each in reversed(low):
            queue.step_back(each)
        assert queue.served("low") == served
    queue.join(ticket("high", HIGH))
    assert queue.peek() is low[0], "it was passed over often enough"
    assert [each.item for each in drained(queue) if each.tenant == "low"] == [1, 2]


def test_the_youngest_of_the_lowest_class_makes_room_first() -> None:
    """Then the youngest of the tenant that has most waiting; a higher class never makes room for a lower one."""
    queue: FairQueue[int] = FairQueue()
    queue.join(ticket("a", LOW, item=1))
    queue.join(ticket("b", LOW, item=2))
    queue.join(ticket("a", NORMAL, item=3))
    victim = queue.displaceable("c", NORMAL)
    assert victim is not None
    assert victim.item == 2
    assert queue.displaceable("b", LOW) is None, "its tenant has as much waiting as the others but one"
    queue.join(ticket("a", LOW, item=4))
    victim = queue.displaceable("b", LOW)
    assert victim is not None
    assert victim.item == 4

    high: FairQueue[int] = FairQueue()
    for _ in range(5):
        high.join(ticket("a", HIGH))
    assert high.displaceable("b", NORMAL) is None
    assert high.displaceable("b", HIGH) is not None


@given(st.lists(st.tuples(TENANTS, CLASSES, COSTS), max_size=200))
def test_within_class_and_tenant_it_is_first_come_first_served(
    arrivals: list[tuple[str, int, float]],
) -> None:
    """Whatever it costs and whoever else is there. And all that joined are served, each once."""
    queue: FairQueue[int] = FairQueue()
    for item, (tenant, priority, cost) in enumerate(arrivals):
        queue.join(ticket(tenant, priority, cost, item))
    order: dict[tuple[str, int], list[int]] = defaultdict(list)
    for each in drained(queue):
        order[each.tenant, each.priority].append(each.item)
    assert sorted(item for line in order.values() for item in line) == list(range(len(arrivals)))
    assert all(line == sorted(line) for line in order.values())


@given(st.lists(st.tuples(TENANTS, COSTS), min_size=2, max_size=200), st.integers(1, 50))
def test_backlogged_tenants_differ_by_one_request_at_most(
    costs: list[tuple[str, float]], served: int
) -> None:
    """The bound of the Virtual Token Counter: while both wait, service differs by no more than the dearest request."""
    queue: FairQueue[int] = FairQueue()
    for tenant, cost in costs:
        queue.join(ticket(tenant, cost=cost))
    waiting = Counter(tenant for tenant, _ in costs)
    got: dict[str, float] = dict.fromkeys(waiting, 0.0)
    dearest = max(cost for _, cost in costs)
    for _ in range(min(served, len(costs))):
        due = queue.peek()
        assert due is not None
        queue.take(due)
        got[due.tenant] += due.cost
        waiting[due.tenant] -= 1
        backlogged = [got[tenant] for tenant, count in waiting.items() if count]
        if backlogged:
            assert max(backlogged) - min(backlogged) <= dearest


class AnyLife(RuleBasedStateMachine):
    """Requests join, go, come back, cost other than thought, leave, and make room, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue()
        self.waiting: list[Ticket[int]] = []
        self.sent: list[Ticket[int]] = []
        self.passed: Counter[int] = Counter()
        self.items = 0

    @rule(tenant=TENANTS, priority=CLASSES, cost=COSTS)
    def join(self, tenant: str, priority: int, cost: float) -> None:
        self.items += 1
        made = ticket(tenant, priority, cost, self.items)
        self.queue.join(made)
        self.waiting.append(made)

    @precondition(lambda self: not self.waiting)
    @rule(tenant=TENANTS, cost=COSTS)
    def pass_through(self, tenant: str, cost: float) -> None:
        self.items += 1
        made = ticket(tenant, NORMAL, cost, self.items)
        self.queue.pass_through(made)
        self.sent.append(made)

    @precondition(lambda self: self.waiting)
    @rule()
    def take(self) -> None:
        due = self.queue.peek()
        assert due is not None
        same = [t for t in self.waiting if (t.tenant, t.priority) == (due.tenant, due.priority)]
        assert due.number == min(t.number for t in same), "first come, first served"
        self.queue.take(due)
        self.waiting.remove(due)
        self.sent.append(due)
        classes = {t.priority for t in self.waiting}
        for priority in (LOW, NORMAL, HIGH):
            self.passed[priority] += 1
            if priority == due.priority or priority not in classes:
                self.passed[priority] = 0
            assert self.passed[priority] <= PASSES_MAX + 2, "no class starves"

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), cost=COSTS)
    def settle(self, data: st.DataObject, cost: float) -> None:
        ended = data.draw(st.sampled_from(self.sent))
        self.sent.remove(ended)
        self.queue.settle(ended.tenant, cost - ended.cost)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        back = data.draw(st.sampled_from(self.sent))
        self.sent.remove(back)
        self.queue.give_back(back)
        self.waiting.append(back)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.waiting))
        self.queue.leave(gone)
        self.queue.leave(gone)
        self.waiting.remove(gone)

    @rule(tenant=TENANTS, priority=CLASSES)
    def make_room(self, tenant: str, priority: int) -> None:
        victim = self.queue.displaceable(tenant, priority)
        mine = sum(t.tenant == tenant for t in self.waiting)
        if victim is not None:
            theirs = sum(t.tenant == victim.tenant for t in self.waiting)
            assert victim.priority < priority or (victim.priority == priority and theirs >= mine + 2)
            self.queue.leave(victim)
            self.waiting.remove(victim)
        else:
            assert all(t.priority >= priority for t in self.waiting)

    @invariant()
    def nothing_is_lost_or_made(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert (self.queue.peek() is None) == (not self.waiting)
        assert all(t.waits for t in self.waiting)
        assert not any(t.waits for t in self.sent)
        for priority in (LOW, NORMAL, HIGH):
            assert 0 <= self.queue.ahead_of("a", priority) <= len(self.waiting)


TestAnyLife = AnyLife.TestCase


def test_many_tenants_that_come_and_go_leave_nothing_behind() -> None:
    """What is kept does not grow with the tenants that ever were, nor with the corrections of those that wait."""
    queue: FairQueue[int] = FairQueue()
    for number in range(20_000):
        made = ticket(f"tenant-{number}")
        queue.join(made)
        queue.take(made)
        queue.settle(made.tenant, -1.0)
    assert len(queue._tenants) <= 1025
    queue.join(ticket("stays"))
    for _ in range(20_000):
        queue.settle("stays", 1.0)
    assert sum(map(len, queue._heaps)) < 100


def test_who_had_a_seat_makes_room_for_nobody() -> None:
    """Given back, it is before all others of its tenant, and neither a higher class nor a longer line displaces it."""
    queue: FairQueue[int] = FairQueue()
    for number in range(3):
        queue.join(ticket("greedy", LOW, item=number))
    first = queue.peek()
    assert first is not None
    queue.take(first)
    first.had_seat = True
    queue.give_back(first)
    displaced = []
    while (victim := queue.displaceable("other", HIGH)) is not None:
        queue.leave(victim)
        displaced.append(victim.item)
    assert displaced == [2, 1]
    assert queue.youngest() is None
    assert queue.peek() is first
