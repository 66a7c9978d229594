"""All who wait in one process: bounded for the process and for each project, with a place only for who has a chance.

A newcomer is told at once, and for how long to stay away, when nothing that is measured lets hope that its turn
comes in time, or when all places are taken. Places are then made by displacing: within a deployment the youngest
of a lower class or of the tenant that has most waiting, between projects the youngest of the one that has most.
"""

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from workloadplane.gateway.queueing.fair_queue import FairQueue, Ticket
from workloadplane.gateway.queueing.preemption import Claim
from workloadplane.gateway.queueing.service import Learned, Service

RETRY_AFTER_S_MAX = 600
_RETRY_AFTER_S_UNKNOWN = 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """On waiting requests and their bodies, in the process and of one project in it."""

    requests_max: int
    bytes_max: int
    project_requests_max: int
    project_bytes_max: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request waits. ``seats``: see ``Service.wait_s``; ``ready``: whether any replica is."""

    deployment_id: str
    project_id: str
    seats: int
    ready: bool


@dataclass(frozen=True, slots=True)
class Joined(Generic[T]):
    """It waits. ``displaced``: who had to make room, waits no more and must be told ``retry_after_s``."""

    displaced: Ticket[T] | None
    retry_after_s: int


@dataclass(frozen=True, slots=True)
class NoRoom:
    """It can't wait. ``rule``: ``queue_full`` | ``deadline``; ``predicted_s``: until its answer, if it is known."""

    rule: str
    retry_after_s: int
    predicted_s: float | None


class _Line(Generic[T]):
    """One deployment's. ``unbound``: of those that wait, how many any replica could take."""

    __slots__ = ("project_id", "queue", "service", "unbound")

    def __init__(self, project_id: str, service: Service) -> None:
        self.project_id = project_id
        self.queue: FairQueue[T] = FairQueue()
        self.service = service
        self.unbound = 0


class _Held:
    """What a project has waiting."""

    __slots__ = ("requests", "size_bytes")

    def __init__(self) -> None:
        self.requests = 0
        self.size_bytes = 0


class WaitingRoom(Generic[T]):
    """See the module. One per process."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._lines: dict[str, _Line[T]] = {}
        self._busy: dict[str, _Line[T]] = {}  # where somebody waits
        self._projects: dict[str, _Held] = {}
        self._remembered: dict[str, Service] = {}  # of deployments that nothing was asked of yet
        self._all = _Held()

    def __len__(self) -> int:
        return self._all.requests

    @property
    def size_bytes(self) -> int:
        """Of all bodies that wait."""
        return self._all.size_bytes

    def deployments(self) -> tuple[str, ...]:
        """For which somebody waits."""
        return tuple(self._busy)

    def waits(self, deployment_id: str) -> bool:
        return deployment_id in self._busy

    def waits_unbound(self, deployment_id: str) -> bool:
        """Whether anybody waits there whom any replica could take."""
        line = self._busy.get(deployment_id)
        return line is not None and line.unbound > 0

    def waiting(self, deployment_id: str) -> int:
        line = self._busy.get(deployment_id)
        return len(line.queue) if line is not None else 0

    def project(self, project_id: str) -> tuple[int, int]:
        """Requests and bytes that this project has waiting."""
        held = self._projects.get(project_id)
        return (held.requests, held.size_bytes) if held is not None else (0, 0)

    # Waiting

    def join(
        self,
        place: Place,
        ticket: Ticket[T],
        *,
        now_s: float,
        until_s: float,
        answer_s: float = 0.0,
        told_s: float | None = None,
        has_seat: bool = False,
    ) -> "Joined[T] | NoRoom":
        """Wait until ``until_s`` at most, if there is a chance and room.

        answer_s: what must be left of the time when the turn comes, for the answer
        told_s:   see ``Service.wait_s``
        has_seat: another one's may be taken back for it, so that it need not wait for one to end
        """
        line = self._line(place.deployment_id, place.project_id)
        if not place.ready and not ticket.is_bound:
            line.service.missing(now_s)
        ahead = line.queue.ahead_of(ticket.tenant, ticket.priority)
        predicted_s = line.service.wait_s(ahead, place.seats, now_s, told_s)
        if predicted_s is not None and now_s + predicted_s + answer_s > until_s and not has_seat:
            self._tidy(place.deployment_id, line)
            due_s = predicted_s + answer_s
            return NoRoom("deadline", _retry_after(now_s + due_s - until_s), due_s)
        displaced = None
        if not self._fits(place.project_id, ticket, 0, 0):
            displaced = self._displaceable(place, line, ticket)
            if displaced is None:
                self._tidy(place.deployment_id, line)
                return NoRoom("queue_full", _retry_after(predicted_s), predicted_s)
            self._drop(*displaced)
        line.queue.join(ticket)
        self._note(place.deployment_id, line, ticket, +1)
        return Joined(displaced[1] if displaced else None, _retry_after(predicted_s))

    def peek(self, deployment_id: str) -> Ticket[T] | None:
        """Whose turn it is there."""
        line = self._busy.get(deployment_id)
        return line.queue.peek() if line is not None else None

    def youngest(self, deployment_id: str) -> Ticket[T] | None:
        """Who waits there at the line's end: the last one to come of the lowest class."""
        line = self._busy.get(deployment_id)
        return line.queue.youngest() if line is not None else None

    def take(self, deployment_id: str, ticket: Ticket[T], now_s: float) -> None:
        """It is sent to a replica or a peer."""
        line = self._busy[deployment_id]
        line.service.found(now_s)
        line.queue.take(ticket)
        self._note(deployment_id, line, ticket, -1)

    def give_back(self, place: Place, ticket: Ticket[T], now_s: float) -> None:
        """It was sent for nothing: it waits again where it was. It has been let in, so bounds are not asked."""
        line = self._line(place.deployment_id, place.project_id)
        if not place.ready and not ticket.is_bound:
            line.service.missing(now_s)
        line.queue.give_back(ticket)
        self._note(place.deployment_id, line, ticket, +1)

    def leave(self, deployment_id: str, ticket: Ticket[T]) -> None:
        """It waits no more and was not sent."""
        if ticket.waits:
            self._drop(self._busy[deployment_id], ticket, deployment_id)

    def step_aside(self, deployment_id: str, ticket: Ticket[T]) -> None:
        """Its turn has come and it can't go, though others might: they come first until it steps back.

        It holds its place meanwhile. All that steps aside must step back before anything else is done with it.
        """
        self._busy[deployment_id].queue.step_aside(ticket)

    def step_back(self, deployment_id: str, ticket: Ticket[T]) -> None:
        """It waits again where it was."""
        line = self._busy[deployment_id] = self._lines[deployment_id]
        line.queue.step_back(ticket)

    # Taking seats back

    def claim(self, deployment_id: str, ticket: Ticket[T]) -> Claim | None:
        """What ``ticket`` can say for itself where there is no seat; ``None``: nothing is known there."""
        line = self._lines.get(deployment_id)
        if line is None:
            return None
        served, usual_cost = line.queue.served(ticket.tenant), line.queue.cost_mean
        return Claim(ticket.tenant, ticket.priority, served, ticket.cost, usual_cost)

    def served(self, deployment_id: str, tenant: str) -> float:
        """What the tenant counts as served there, in weighted tokens."""
        line = self._lines.get(deployment_id)
        return line.queue.served(tenant) if line is not None else 0.0

    # Charging and measuring

    def pass_through(self, deployment_id: str, project_id: str, ticket: Ticket[T]) -> None:
        """It is sent at once."""
        line = self._lines.get(deployment_id) or self._line(deployment_id, project_id)
        line.queue.pass_through(ticket)

    def settle(
        self,
        deployment_id: str,
        ticket: Ticket[T],
        cost: float,
        served_s: float | None = None,
        output_tokens: int = 0,
    ) -> None:
        """What it really cost is known; to be told once for each time that it was charged.

        served_s: how long a replica of this cluster took, if one answered it whole
        """
        line = self._lines.get(deployment_id)
        if line is not None:
            line.queue.settle(ticket.tenant, cost - ticket.cost)
            if served_s is not None:
                line.service.served(served_s, output_tokens)

    def spend(self, deployment_id: str, ticket: Ticket[T], cost: float) -> None:
        """It goes on and has cost so much beyond what was charged."""
        line = self._lines.get(deployment_id)
        if line is not None:
            line.queue.settle(ticket.tenant, cost)

    def service(self, deployment_id: str) -> Service | None:
        """What is measured there, or was learned before, if anything is."""
        line = self._lines.get(deployment_id)
        return line.service if line is not None else self._remembered.get(deployment_id)

    def remember(self, learned: Mapping[str, Learned]) -> None:
        """What an earlier process had learned, by deployment: it counts where nothing is measured yet."""
        self._remembered |= {name: Service(told) for name, told in learned.items()}

    def learned(self, now_at: float) -> dict[str, Learned]:
        """By deployment, for a later process. ``now_at``: seconds since 1970."""
        services = self._remembered | {name: line.service for name, line in self._lines.items()}
        return {name: service.learned(now_at) for name, service in services.items()}

    def forget(self, deployments: Container[str]) -> None:
        """Let go of what was measured for others than these, unless somebody waits there."""
        self._lines = {
            name: line for name, line in self._lines.items() if name in deployments or name in self._busy
        }

    # Inside

    def _line(self, deployment_id: str, project_id: str) -> _Line[T]:
        line = self._lines.get(deployment_id)
        if line is None:
            service = self._remembered.pop(deployment_id, None) or Service()
            line = self._lines[deployment_id] = _Line(project_id, service)
        return line

    def _fits(self, project_id: str, ticket: Ticket[T], less: int, less_bytes: int) -> bool:
        """Whether it finds room in the process and in its project once so much has left both."""
        bounds, size_bytes = self._bounds, ticket.size_bytes - less_bytes
        requests, held_bytes = self.project(project_id)
        return (
            self._all.requests - less < bounds.requests_max
            and self._all.size_bytes + size_bytes <= bounds.bytes_max
            and requests - less < bounds.project_requests_max
            and held_bytes + size_bytes <= bounds.project_bytes_max
        )

    def _displaceable(
        self, place: Place, line: _Line[T], newcomer: Ticket[T]
    ) -> "tuple[_Line[T], Ticket[T], str] | None":
        """Whose leaving alone would make room, and whom fairness tells to leave."""
        victim = line.queue.displaceable(newcomer.tenant, newcomer.priority)
        if victim is not None and self._fits(place.project_id, newcomer, 1, victim.size_bytes):
            return line, victim, place.deployment_id
        requests, held_bytes = self.project(place.project_id)
        bounds = self._bounds
        if (
            requests >= bounds.project_requests_max
            or held_bytes + newcomer.size_bytes > bounds.project_bytes_max
            or not self._projects
        ):
            return None
        largest = max(self._projects, key=lambda project_id: self._projects[project_id].requests)
        if self._projects[largest].requests < requests + 2:
            return None
        busiest = max(
            (each for each in self._busy if self._busy[each].project_id == largest),
            key=lambda each: len(self._busy[each].queue),
        )
        other = self._busy[busiest]
        victim = other.queue.youngest()
        if (
            victim is None
            or self._all.size_bytes - victim.size_bytes + newcomer.size_bytes > bounds.bytes_max
        ):
            return None
        return other, victim, busiest

    def _drop(self, line: _Line[T], ticket: Ticket[T], deployment_id: str) -> None:
        line.queue.leave(ticket)
        self._note(deployment_id, line, ticket, -1)

    def _note(self, deployment_id: str, line: _Line[T], ticket: Ticket[T], change: int) -> None:
        held = self._projects.get(line.project_id)
        if held is None:
            held = self._projects[line.project_id] = _Held()
        for each in (held, self._all):
            each.requests += change
            each.size_bytes += change * ticket.size_bytes
        if not held.requests:
            del self._projects[line.project_id]
        line.unbound += 0 if ticket.is_bound else change
        if line.queue:
            self._busy[deployment_id] = line
        else:
            self._tidy(deployment_id, line)

    def _tidy(self, deployment_id: str, line: _Line[T]) -> None:
        if not line.queue:
            self._busy.pop(deployment_id, None)
            line.service.given_up()


def _retry_after(wait_s: float | None) -> int:
    """Whole seconds, at least one."""
    if wait_s is None:
        return _RETRY_AFTER_S_UNKNOWN
    return min(RETRY_AFTER_S_MAX, max(1, math.ceil(wait_s)))
