"""The order in which one deployment's waiting requests are served.

Within a class the tenant that was served the least comes first, counted in tokens: the Virtual Token Counter of
Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024). A tenant that begins to wait is lifted to
what the least served of those that wait has, less a credit of ``CREDIT_REQUESTS`` requests of the usual cost:
time that it did not use gives it no further claim, but a burst of one that keeps within its share does not wait
behind one that never does. A tenant is charged what a request is expected to cost when it is sent and the
difference once that is known. Within class and tenant: first come, first served.

A higher class goes first, but a lower one that waits is passed over ``PASSES_MAX`` times in a row at most. Every
operation takes time logarithmic in the number of tenants.
"""

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from itertools import takewhile
from typing import Generic, TypeVar

import msgspec

from workloadplane.gateway.queueing.priority import CLASSES

PASSES_MAX = 16
CREDIT_REQUESTS = 24
_COST_SHARE = 0.01  # of a new request in the mean
_TENANTS_KEPT = 1024
_STALE_ENTRIES_MAX = 64

T = TypeVar("T")


class Ticket(msgspec.Struct, Generic[T], eq=False):
    """One place. ``number`` is its rank by arrival; ``cost`` in weighted tokens, as ``FairQueue`` charges it.

    had_seat: it gave it up, or its stream broke: it never makes room for another
    is_bound: only some of the replicas could take it
    """

    item: T
    tenant: str
    priority: int
    cost: float
    size_bytes: int
    number: int = 0
    waits: bool = False
    had_seat: bool = False
    is_bound: bool = False


class _Tenant(Generic[T]):
    """``keys``: by class, the entry of the heap that counts; 0 = none, since nothing waits there."""

    __slots__ = ("keys", "lines", "name", "served", "waiting")

    def __init__(self, name: str, served: float) -> None:
        self.name = name
        self.served = served
        self.waiting = 0
        self.keys = [0] * CLASSES
        self.lines: tuple[OrderedDict[int, Ticket[T]], ...] = tuple(OrderedDict() for _ in range(CLASSES))


class FairQueue(Generic[T]):
    """See the module. ``len`` is how many wait."""

    def __init__(self) -> None:
        self._tenants: dict[str, _Tenant[T]] = {}
        self._classes: tuple[OrderedDict[int, Ticket[T]], ...] = tuple(OrderedDict() for _ in range(CLASSES))
        self._heaps: tuple[list[tuple[float, int, _Tenant[T]]], ...] = tuple([] for _ in range(CLASSES))
        self._active = [0] * CLASSES  # tenants that wait, by class
        self._passed = [0] * CLASSES
        self._by_waiting: dict[int, OrderedDict[str, _Tenant[T]]] = {}
        self._longest = 0
        self._level = 0.0
        self._cost_mean = 0.0
        self._tenants_max = _TENANTS_KEPT
        self._entries = 0
        self._arrivals = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    # Waiting

    def join(self, ticket: Ticket[T]) -> None:
        """Wait, behind all of the same class and tenant."""
        self._arrivals += 1
        ticket.number = self._arrivals
        self._add(ticket, first=False)

    def peek(self) -> Ticket[T] | None:
        """Whose turn it is."""
        if not self._count:
            return None
        priority = self._class_due()
        tenant = self._least_served(priority)
        return next(iter(tenant.lines[priority].values()))

    def take(self, ticket: Ticket[T]) -> None:
        """It is sent: it waits no more and is charged."""
        tenant = self._tenants[ticket.tenant]
        for lower in range(ticket.priority):
            if self._classes[lower]:
                self._passed[lower] += 1
        self._passed[ticket.priority] = 0
        self._remove(ticket)
        self._level = max(self._level, tenant.served)
        self._charge(tenant, tenant.served, ticket.cost)

    def give_back(self, ticket: Ticket[T]) -> None:
        """It was sent for nothing: it waits again at its old rank, and the charge is undone."""
        self.settle(ticket.tenant, -ticket.cost)
        self._add(ticket, first=True)

    def leave(self, ticket: Ticket[T]) -> None:
        """It waits no more and was not served."""
        if ticket.waits:
            self._remove(ticket)

    def step_aside(self, ticket: Ticket[T]) -> None:
        """It can't go though it is its turn: others may, until it steps back."""
        self._remove(ticket)

    def step_back(self, ticket: Ticket[T]) -> None:
        """It waits again at its old rank, as if it had never been aside."""
        self._add(ticket, first=True, anew=False)

    # Charging

    def pass_through(self, ticket: Ticket[T]) -> None:
        """It is sent without having waited: every request's way while there is room, so it is kept short."""
        self._arrivals += 1
        ticket.number = self._arrivals
        tenant = self._tenants.get(ticket.tenant) or self._tenant(ticket.tenant)
        least = self._level - CREDIT_REQUESTS * self._cost_mean if not self._count else self._least()
        start = tenant.served
        start = max(start, least)
        self._level = max(self._level, start)
        self._charge(tenant, start, ticket.cost)

    def settle(self, tenant_name: str, difference: float) -> None:
        """What was charged differs from what it cost."""
        tenant = self._tenants.get(tenant_name)
        if tenant is not None and difference:
            self._set_served(tenant, tenant.served + difference)

    # Looking

    @property
    def cost_mean(self) -> float:
        """Of a request, in weighted tokens."""
        return self._cost_mean

    def served(self, tenant_name: str) -> float:
        """What the tenant counts as served now, in weighted tokens."""
        tenant = self._tenants.get(tenant_name)
        if tenant is not None and tenant.waiting:
            return tenant.served
        least = self._least()
        return least if tenant is None else max(tenant.served, least)

    def ahead_of(self, tenant_name: str, priority: int) -> int:
        """How many go before a newcomer, if all requests cost the same."""
        higher = sum(len(line) for line in self._classes[priority + 1 :])
        tenant = self._tenants.get(tenant_name)
        own = len(tenant.lines[priority]) if tenant is not None else 0
        others = self._active[priority] - (own > 0)
        return higher + min(len(self._classes[priority]), own + (own + 1) * others)

    def displaceable(self, tenant_name: str, priority: int) -> Ticket[T] | None:
        """Who makes room for a newcomer: the youngest of a lower class, else of the tenant that has most waiting.

        The latter only if it has at least two more than the newcomer's, and nobody of a higher class.
        """
        for line in self._classes[:priority]:
            lower = _youngest(line)
            if lower is not None:
                return lower
        tenant = self._tenants.get(tenant_name)
        if self._longest < (tenant.waiting if tenant is not None else 0) + 2:
            return None
        greedy = next(iter(self._by_waiting[self._longest].values()))
        youngest = next(filter(None, map(_youngest, greedy.lines)), None)
        return youngest if youngest is not None and youngest.priority <= priority else None

    def youngest(self) -> Ticket[T] | None:
        """The last one to come of the lowest class."""
        return next(filter(None, map(_youngest, self._classes)), None)

    # Inside

    def _tenant(self, name: str) -> _Tenant[T]:
        tenant = self._tenants.get(name)
        if tenant is None:
            if len(self._tenants) >= self._tenants_max:
                self._forget_those_without_debt()
            tenant = self._tenants[name] = _Tenant(name, self._least())
        return tenant

    def _forget_those_without_debt(self) -> None:
        """Who was served no more than the last one to go is nearly a stranger. Rare: it costs newcomers little."""
        self._tenants = {
            name: tenant
            for name, tenant in self._tenants.items()
            if tenant.waiting or tenant.served > self._level
        }
        self._tenants_max = max(_TENANTS_KEPT, 2 * len(self._tenants))

    def _least(self) -> float:
        """What a tenant that does not wait counts as served at the least: what it did not use is forgotten beyond this.

        It goes by the least served of those that wait; where nobody does, by the last one's count when it was sent.
        """
        level = self._level
        if self._count:
            level = min(self._least_served(p).served for p in range(CLASSES) if self._classes[p])
        return level - CREDIT_REQUESTS * self._cost_mean

    def _charge(self, tenant: _Tenant[T], served: float, cost: float) -> None:
        self._cost_mean += (_COST_SHARE if self._cost_mean else 1.0) * (cost - self._cost_mean)
        self._set_served(tenant, served + cost)

    def _class_due(self) -> int:
        """The highest class, unless a lower one was passed over too often."""
        due = -1
        for priority in range(CLASSES):
            if not self._classes[priority]:
                continue
            if self._passed[priority] >= PASSES_MAX:
                return priority
            due = priority
        return due

    def _least_served(self, priority: int) -> _Tenant[T]:
        heap = self._heaps[priority]
        while True:
            _, entry, tenant = heap[0]
            if tenant.keys[priority] == entry:
                return tenant
            heappop(heap)

    def _add(self, ticket: Ticket[T], *, first: bool, anew: bool = True) -> None:
        tenant = self._tenant(ticket.tenant)
        if anew and not tenant.waiting:
            tenant.served = max(tenant.served, self._least())
        priority = ticket.priority
        line = tenant.lines[priority]
        if not line:
            self._active[priority] += 1
            self._passed[priority] *= not anew or bool(self._classes[priority])
        everybody = self._classes[priority]
        if first:
            _put_back(line, ticket)
            everybody[ticket.number] = ticket
            everybody.move_to_end(ticket.number, last=False)
        else:
            line[ticket.number] = everybody[ticket.number] = ticket
        ticket.waits = True
        self._count += 1
        self._set_waiting(tenant, tenant.waiting + 1)
        if not tenant.keys[priority]:
            self._push(tenant, priority)

    def _remove(self, ticket: Ticket[T]) -> None:
        tenant = self._tenants[ticket.tenant]
        line = tenant.lines[ticket.priority]
        del line[ticket.number]
        del self._classes[ticket.priority][ticket.number]
        ticket.waits = False
        self._count -= 1
        self._set_waiting(tenant, tenant.waiting - 1)
        if not line:
            self._active[ticket.priority] -= 1
            tenant.keys[ticket.priority] = 0

    def _set_waiting(self, tenant: _Tenant[T], waiting: int) -> None:
        """Tenants lie in buckets by how many they have waiting, so that the longest is at hand."""
        if tenant.waiting:
            bucket = self._by_waiting[tenant.waiting]
            del bucket[tenant.name]
            if not bucket:
                del self._by_waiting[tenant.waiting]
        tenant.waiting = waiting
        if waiting:
            self._by_waiting.setdefault(waiting, OrderedDict())[tenant.name] = tenant
        if waiting > self._longest:
            self._longest = waiting
        elif self._longest not in self._by_waiting:
            self._longest = max(self._longest - 1, 0)  # counts change by one

    def _set_served(self, tenant: _Tenant[T], served: float) -> None:
        tenant.served = served
        if tenant.waiting:
            for priority in range(CLASSES):
                if tenant.keys[priority]:
                    self._push(tenant, priority)

    def _push(self, tenant: _Tenant[T], priority: int) -> None:
        heap = self._heaps[priority]
        self._entries += 1
        tenant.keys[priority] = self._entries
        heappush(heap, (tenant.served, self._entries, tenant))
        if len(heap) > 2 * self._active[priority] + _STALE_ENTRIES_MAX:
            heap[:] = [each for each in heap if each[2].keys[priority] == each[1]]
            heapify(heap)


def _youngest(line: OrderedDict[int, Ticket[T]]) -> Ticket[T] | None:
    """The last one to come of those that never had a seat."""
    return next((ticket for ticket in reversed(line.values()) if not ticket.had_seat), None)


def _put_back(line: OrderedDict[int, Ticket[T]], ticket: Ticket[T]) -> None:
    """At its rank: those given back come before all others, among themselves by arrival."""
    earlier = list(takewhile(lambda number: number < ticket.number, line))
    line[ticket.number] = ticket
    for number in (ticket.number, *reversed(earlier)):
        line.move_to_end(number, last=False)
