"""The streams that could give up their seats, and the request for which one of them does."""

from collections.abc import Iterator
from typing import Protocol

from workloadplane.gateway.entry import Held
from workloadplane.gateway.queueing import Holding, Seat, Ticket, WaitingRoom, seat_to_take_back
from workloadplane.routing.places import Places

_Streams = dict["Preemptible", None]


class Preemptible(Protocol):
    """A stream that can go on later."""

    def seat(self, usable: int, places: Places) -> "Seat[Preemptible] | None":
        """Its seat, if it could give it up now and it is at one of these replicas (bits)."""

    def give_way(self) -> bool:
        """End it upstream and let it wait for its rest; whether that can be."""


class Preempting:
    """One per process."""

    def __init__(self, room: WaitingRoom[Held]) -> None:
        self._room = room
        self._streams: dict[str, dict[tuple[str, int], _Streams]] = {}

    def add(self, stream: Preemptible, deployment_id: str, ticket: Ticket[Held]) -> None:
        """It runs here, and could give way."""
        held = self._streams.setdefault(deployment_id, {})
        held.setdefault((ticket.tenant, ticket.priority), {})[stream] = None

    def discard(self, stream: Preemptible, deployment_id: str, ticket: Ticket[Held]) -> None:
        """It runs no more; it need not have been added."""
        held = self._streams.get(deployment_id, {})
        streams = held.get((ticket.tenant, ticket.priority), {})
        streams.pop(stream, None)
        if not streams:
            held.pop((ticket.tenant, ticket.priority), None)
        if not held:
            self._streams.pop(deployment_id, None)

    def make_room(self, deployment_id: str, ticket: Ticket[Held], usable: int, places: Places) -> bool:
        """Take a seat back for ``ticket``, which is next; whether there is one now. ``usable``: replicas, as bits."""
        while (seat := self._seat_for(deployment_id, ticket, usable, places)) is not None:
            if seat.item.give_way():
                return True
        return False

    def could_make_room(self, deployment_id: str, ticket: Ticket[Held], usable: int, places: Places) -> bool:
        """Whether a seat would be taken back for ``ticket`` if it were next."""
        return self._seat_for(deployment_id, ticket, usable, places) is not None

    def _seat_for(
        self, deployment_id: str, ticket: Ticket[Held], usable: int, places: Places
    ) -> "Seat[Preemptible] | None":
        if deployment_id not in self._streams:
            return None
        claim = self._room.claim(deployment_id, ticket)
        if claim is None:
            return None
        return seat_to_take_back(claim, self._holdings(deployment_id, usable, places))

    def _holdings(self, deployment_id: str, usable: int, places: Places) -> "Iterator[Holding[Preemptible]]":
        for (tenant, priority), streams in self._streams.get(deployment_id, {}).items():
            seats = filter(None, (stream.seat(usable, places) for stream in streams))
            yield Holding(tenant, priority, self._room.served(deployment_id, tenant), seats)
