"""Whose turn it is: as soon as a replica has a seat, the fair queue's next request is asked to go.

What only some of the replicas could take (the rest of a stream, which must be of its revision; what asks for an
adapter) keeps nobody waiting whom others can serve: where it can't go it steps aside, and the next one is asked.
"""

import asyncio
from collections.abc import Hashable

from workloadplane.gateway.entry import Held
from workloadplane.gateway.queueing import Ticket, WaitingRoom

_TURNS_AT_A_TIME = 64
_ASIDE_MAX = 256


class Turns:
    """One per process. Turns are given from the loop, never from within the call that freed a seat."""

    def __init__(self, room: WaitingRoom[Held], loop: asyncio.AbstractEventLoop) -> None:
        self._room = room
        self._loop = loop
        self._due: set[str] = set()

    def soon(self, deployment_id: str) -> None:
        """Something has changed for this deployment: a seat is free, a replica is ready."""
        if self._room.waits(deployment_id) and deployment_id not in self._due:
            self._due.add(deployment_id)
            self._loop.call_soon(self._give, deployment_id)

    def lets_pass(self, deployment_id: str, bound_to: Hashable | None) -> bool:
        """Whether a newcomer takes nobody's turn: only those wait that could not go when they were asked."""
        due = deployment_id in self._due
        return bound_to is None and not due and not self._room.waits_unbound(deployment_id)

    def soon_for_all(self) -> None:
        """Tables have changed, or time has passed in which a peer may have found room."""
        for deployment_id in self._room.deployments():
            self.soon(deployment_id)

    def spill(self) -> None:
        """A peer has spoken: whoever waits at a line's end may be served sooner there, and nobody later here."""
        for deployment_id in self._room.deployments():
            self._loop.call_soon(self._spill, deployment_id)

    def _spill(self, deployment_id: str) -> None:
        for _ in range(_TURNS_AT_A_TIME):
            ticket = self._room.youngest(deployment_id)
            if ticket is None or not ticket.item.spill():
                return

    def _give(self, deployment_id: str) -> None:
        self._due.discard(deployment_id)
        aside: list[Ticket[Held]] = []
        try:
            goes_on = self._ask_in_turn(deployment_id, aside)
        finally:
            for ticket in reversed(aside):
                self._room.step_back(deployment_id, ticket)
        if goes_on:
            self.soon(deployment_id)

    def _ask_in_turn(self, deployment_id: str, aside: list[Ticket[Held]]) -> bool:
        """Ask one after the other, until one can't go that any replica could take; whether more could go.

        ``aside``: gets those that have stepped aside
        """
        stuck: set[Hashable] = set()
        went = 0
        while went < _TURNS_AT_A_TIME and len(aside) < _ASIDE_MAX:
            ticket = self._room.peek(deployment_id)
            if ticket is None:
                return False
            bound_to = ticket.item.bound_to
            if bound_to not in stuck:
                if ticket.item.take_turn():
                    went += 1
                    continue
                if bound_to is None:
                    return False
                stuck.add(bound_to)
            self._room.step_aside(deployment_id, ticket)
            aside.append(ticket)
        return went == _TURNS_AT_A_TIME
