"""Who is asked to go when, and who steps aside for whom."""

from collections.abc import Callable
from typing import Any, cast

from workloadplane.gateway.entry import Held
from workloadplane.gateway.queueing import NORMAL, Bounds, Place, Ticket, WaitingRoom
from workloadplane.gateway.turns import Turns

CHAT = "chat"
PLACE = Place(CHAT, "project", 4, ready=True)


class Waiter:
    """Goes when what it is bound to is there."""

    def __init__(self, world: "World", name: str, bound_to: str | None) -> None:
        self.bound_to = bound_to
        self.ticket: Ticket[Held] = Ticket(self, "tenant", NORMAL, 1.0, 1, is_bound=bound_to is not None)
        self._world = world
        self._name = name

    def take_turn(self) -> bool:
        world = self._world
        world.asked.append(self._name)
        if self.bound_to not in world.there:
            return False
        world.room.take(CHAT, self.ticket, 0.0)
        world.went.append(self._name)
        return True

    def spill(self) -> bool:
        return False

    def displace(self, retry_after_s: int) -> None:
        raise AssertionError


class World:
    """A room, and a loop whose calls are made by hand. ``there``: what replicas with a seat have."""

    def __init__(self, *there: str | None) -> None:
        self.there = set(there)
        self.asked: list[str] = []
        self.went: list[str] = []
        self.room: WaitingRoom[Held] = WaitingRoom(
            Bounds(requests_max=999, bytes_max=999, project_requests_max=999, project_bytes_max=999)
        )
        self._due: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.turns = Turns(self.room, cast(Any, self))

    def call_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        self._due.append((call, arguments))

    def waits(self, name: str, bound_to: str | None = None) -> None:
        self.room.join(PLACE, Waiter(self, name, bound_to).ticket, now_s=0.0, until_s=99.0)

    def give(self) -> None:
        self.turns.soon(CHAT)
        for _ in range(100):
            if not self._due:
                return
            call, arguments = self._due.pop()
            call(*arguments)
        raise AssertionError("turns are given without end")


def test_who_can_go_does_not_wait_behind_who_cannot() -> None:
    """The rest of an old revision's stream waits on, at its rank; whom any replica could take goes."""
    world = World(None)
    world.waits("rest", "revision 1")
    world.waits("first")
    world.waits("second")
    world.give()
    assert world.went == ["first", "second"]
    assert world.room.waiting(CHAT) == 1
    world.waits("third")
    world.there.add("revision 1")
    world.give()
    assert world.went == ["first", "second", "rest", "third"]
    assert not len(world.room)


def test_nobody_is_asked_when_no_replica_has_a_seat() -> None:
    """Whom any replica could take can't go: then nobody behind can, and nobody is asked in vain."""
    world = World()
    for number in range(3):
        world.waits(str(number))
    world.waits("rest", "revision 1")
    world.give()
    assert world.asked == ["0"]
    assert world.room.waiting(CHAT) == 4


def test_of_those_bound_to_the_same_one_is_asked() -> None:
    """A hundred that wait for an adapter cost one question, and are a hundred afterwards, in their order."""
    world = World(None, "other")
    for number in range(100):
        world.waits(f"sql {number}", "sql")
    world.waits("other", "other")
    world.waits("plain")
    world.give()
    assert world.asked == ["sql 0", "other", "plain"]
    assert world.went == ["other", "plain"]
    world.there.add("sql")
    world.give()
    assert world.went[2:] == [f"sql {number}" for number in range(100)]


def test_a_crowd_that_is_stuck_gives_no_turns_without_end() -> None:
    """More than may step aside at once: the others wait for the next occasion, and the loop has its peace."""
    world = World(None)
    for number in range(400):
        world.waits(str(number), "sql")
    world.give()
    assert world.asked == ["0"]
    assert world.room.waiting(CHAT) == 400
    assert world.room.waits(CHAT)


def test_a_newcomer_passes_those_that_are_stuck_and_nobody_else() -> None:
    """Where only those wait that could not go, it goes; not where a turn is due, or it asks for what they do."""
    world = World()
    world.waits("rest", "revision 1")
    assert world.turns.lets_pass(CHAT, None)
    assert not world.turns.lets_pass(CHAT, "revision 1")
    world.turns.soon(CHAT)
    assert not world.turns.lets_pass(CHAT, None), "a seat has come free: whoever waits is asked first"
    world.give()
    assert world.turns.lets_pass(CHAT, None)
    world.waits("plain")
    assert not world.turns.lets_pass(CHAT, None)
