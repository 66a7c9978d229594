"""Whose turn it is: as soon as a replica has a seat, the fair queue's next request is asked to go."""

import asyncio

from workloadplane.gateway.entry import Held
from workloadplane.gateway.queueing import WaitingRoom

_TURNS_AT_A_TIME = 64


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
        for _ in range(_TURNS_AT_A_TIME):
            ticket = self._room.peek(deployment_id)
            if ticket is None or not ticket.item.take_turn():
                return
        self.soon(deployment_id)
