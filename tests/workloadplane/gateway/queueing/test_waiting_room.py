"""Bounds of what waits, predicted waits, and whom they turn away."""

from hypothesis import given
from hypothesis import strategies as st

from workloadplane.gateway.queueing import (
    HIGH,
    LOW,
    NORMAL,
    Bounds,
    Joined,
    Learned,
    NoRoom,
    Place,
    Ticket,
    WaitingRoom,
)
from workloadplane.gateway.queueing.service import Service


def room(requests: int = 10, size_bytes: int = 1000, project: int = 10) -> WaitingRoom[str]:
    return WaitingRoom(
        Bounds(
            requests_max=requests,
            bytes_max=size_bytes,
            project_requests_max=project,
            project_bytes_max=size_bytes,
        )
    )


def ticket(name: str, tenant: str = "a", priority: int = NORMAL, size_bytes: int = 1) -> Ticket[str]:
    return Ticket(name, tenant, priority, 1.0, size_bytes)


def place(name: str = "chat", project: str = "p", seats: int = 4, ready: bool = True) -> Place:
    return Place(name, project, seats, ready)


def measured(seconds: float, of: WaitingRoom[str], where: Place) -> None:
    """One request was answered and took so long."""
    gone = ticket("gone")
    of.pass_through(where.deployment_id, where.project_id, gone)
    of.settle(where.deployment_id, gone, 1.0, seconds, 10)


def test_who_cannot_be_served_in_time_is_told_at_once_and_when_to_come() -> None:
    """Four seats of 2 s each serve two a second: the tenth waits 5 s. With less time it is refused, honestly."""
    rooms, where = room(requests=100, project=100), place()
    measured(2.0, rooms, where)
    for number in range(9):
        assert isinstance(rooms.join(where, ticket(str(number)), now_s=0, until_s=180), Joined)
    told = rooms.join(where, ticket("hasty"), now_s=0, until_s=3.0)
    assert told == NoRoom("deadline", retry_after_s=2, predicted_s=5.0)
    whole = rooms.join(where, ticket("whole"), now_s=0, until_s=6.0, answer_s=2.0)
    assert whole == NoRoom("deadline", retry_after_s=1, predicted_s=7.0)
    assert isinstance(rooms.join(where, ticket("patient"), now_s=0, until_s=5.0), Joined)
    assert isinstance(rooms.join(where, ticket("urgent", priority=HIGH), now_s=0, until_s=1.0), Joined)
    assert isinstance(rooms.join(where, ticket("other", "b"), now_s=0, until_s=2.0), Joined)
    assert len(rooms) == 12


def test_a_short_answer_is_due_sooner_than_the_usual_one() -> None:
    """By its share of the usual tokens, where it asks for fewer; without a bound of its own it is a usual one."""
    service = Service(Learned(measured_at=0.0, request_s=6.0, output_tokens=300.0))
    assert service.answer_s(None) == service.answer_s(300) == service.answer_s(9999) == 6.0
    assert service.answer_s(100) == 2.0
    assert service.answer_s(0) == 0.0
    service = Service(Learned(measured_at=0.0, request_s=6.0, output_tokens=0.0))
    assert service.answer_s(100) == 6.0, "embeddings make none"
    assert Service().answer_s(100) is None


def test_nothing_measured_refuses_nobody() -> None:
    """A wait that cannot be predicted is bounded by length and time alone."""
    rooms = room()
    assert isinstance(rooms.join(place(), ticket("a"), now_s=0, until_s=0.001), Joined)


def test_the_time_that_a_start_takes_is_learned() -> None:
    """From the first who waited for a replica to the first who got one; a start given up is not measured."""
    rooms, off, on = room(), place(seats=0, ready=False), place()
    first = ticket("first")
    rooms.join(off, first, now_s=100, until_s=300)
    rooms.take("chat", first, now_s=140)
    rooms.join(off, ticket("second"), now_s=1000, until_s=1100)
    told = rooms.join(off, ticket("hasty"), now_s=1010, until_s=1030)
    assert told == NoRoom("deadline", retry_after_s=10, predicted_s=30.0)
    given_up = ticket("third", "b")
    rooms.join(place("other", seats=0, ready=False), given_up, now_s=0, until_s=10)
    rooms.leave("other", given_up)
    late = ticket("late", "b")
    rooms.join(place("other", seats=0, ready=False), late, now_s=500, until_s=900)
    rooms.take("other", late, now_s=510)
    service = rooms.service("other")
    assert service is not None
    assert service.start_s_mean == 10
    assert on.ready


def test_a_wait_for_some_of_the_replicas_is_no_start() -> None:
    """What waits for its revision or its adapter while others are served says nothing of how long a start takes."""
    rooms = room()
    rest = ticket("rest")
    rest.is_bound = True
    rooms.join(place(seats=0, ready=False), rest, now_s=0, until_s=180)
    other = ticket("other")
    rooms.join(place(), other, now_s=50, until_s=180)
    rooms.take("chat", other, now_s=51)
    service = rooms.service("chat")
    assert service is not None
    assert service.start_s_mean is None


def test_what_was_learned_before_counts_from_the_first_request_on() -> None:
    """It predicts as if measured, gives way to what is measured, and goes on to the next process with its time."""
    rooms, where, off = room(), place(seats=1), place("asleep", seats=0, ready=False)
    rooms.remember(
        {
            "chat": Learned(measured_at=1000.0, request_s=8.0, output_tokens=40.0),
            "asleep": Learned(measured_at=900.0, start_s=60.0),
        }
    )
    hasty = rooms.join(where, ticket("hasty"), now_s=0, until_s=5.0)
    assert hasty == NoRoom("deadline", retry_after_s=3, predicted_s=8.0)
    assert rooms.join(off, ticket("asleep"), now_s=0, until_s=50.0) == NoRoom("deadline", 10, 60.0)
    assert rooms.learned(5000.0)["chat"].measured_at == 1000.0
    measured(3.0, rooms, where)
    learned = rooms.learned(6000.0)
    assert learned["chat"] == Learned(measured_at=6000.0, request_s=7.0, output_tokens=34.0)
    assert learned["asleep"] == Learned(measured_at=900.0, start_s=60.0)
    for _ in range(50):
        measured(3.0, rooms, where)
    service = rooms.service("chat")
    assert service is not None
    assert service.request_s_mean is not None
    assert service.request_s_mean < 3.1


def test_what_others_say_counts_where_nothing_is_measured() -> None:
    """A peer's word refuses the hopeless too; the first measurement of our own outweighs it."""
    rooms, where = room(), place(seats=1)
    told = rooms.join(where, ticket("hasty"), now_s=0, until_s=5.0, told_s=8.0)
    assert told == NoRoom("deadline", retry_after_s=3, predicted_s=8.0)
    measured(1.0, rooms, where)
    assert isinstance(rooms.join(where, ticket("in time"), now_s=0, until_s=5.0, told_s=8.0), Joined)


def test_one_project_cannot_take_all_places() -> None:
    """Its own bound comes first; in a full room the project with the most gives its youngest for one with less."""
    rooms = room(requests=6, project=4)
    for number in range(5):
        last = rooms.join(place("greedy", "p1"), ticket(str(number)), now_s=0, until_s=180)
    assert isinstance(last, NoRoom)
    for number in range(2):
        joined = rooms.join(place("small", "p2"), ticket(f"s{number}"), now_s=0, until_s=180)
        assert isinstance(joined, Joined)
    assert len(rooms) == 6
    joined = rooms.join(place("tiny", "p3"), ticket("t"), now_s=0, until_s=180)
    assert isinstance(joined, Joined)
    assert joined.displaced is not None
    assert joined.displaced.item == "3"
    assert rooms.project("p1") == (3, 3)
    assert isinstance(rooms.join(place("greedy", "p1"), ticket("more"), now_s=0, until_s=180), NoRoom)


def test_bytes_are_bounded_as_well() -> None:
    """One who must go makes room only if it is large enough; a body beyond the bound never fits."""
    rooms = room(size_bytes=100)
    assert isinstance(rooms.join(place(), ticket("huge", size_bytes=101), now_s=0, until_s=9), NoRoom)
    rooms.join(place(), ticket("low", priority=LOW, size_bytes=60), now_s=0, until_s=9)
    rooms.join(place(), ticket("small", priority=LOW, size_bytes=30), now_s=0, until_s=9)
    assert isinstance(rooms.join(place(), ticket("n", size_bytes=50), now_s=0, until_s=9), NoRoom)
    joined = rooms.join(place(), ticket("fits", size_bytes=35), now_s=0, until_s=9)
    assert isinstance(joined, Joined)
    assert joined.displaced is not None
    assert joined.displaced.item == "small"
    assert rooms.size_bytes == 95


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["join", "take", "leave", "give_back", "aside"]),
            st.integers(0, 3),
            st.integers(0, 2),
            st.integers(1, 40),
        ),
        max_size=150,
    )
)
def test_bounds_hold_and_everybody_is_somewhere(steps: list[tuple[str, int, int, int]]) -> None:
    """Requests that joined wait, were sent, left, or were displaced and named: none twice, none lost."""
    rooms = room(requests=8, size_bytes=120, project=5)
    waiting: dict[int, list[Ticket[str]]] = {number: [] for number in range(4)}
    sent: dict[int, list[Ticket[str]]] = {number: [] for number in range(4)}
    back = 0
    for name, number, priority, size_bytes in steps:
        where = place(f"d{number}", f"p{number // 2}")
        if name == "join":
            made = ticket("x", f"t{size_bytes % 3}", priority, size_bytes)
            joined = rooms.join(where, made, now_s=0, until_s=180)
            if isinstance(joined, Joined):
                waiting[number].append(made)
                for line in waiting.values():
                    if joined.displaced in line:
                        line.remove(joined.displaced)
        elif name == "take" and (due := rooms.peek(f"d{number}")) is not None:
            rooms.take(f"d{number}", due, 0)
            waiting[number].remove(due)
            sent[number].append(due)
        elif name == "aside" and (due := rooms.peek(f"d{number}")) is not None:
            rooms.step_aside(f"d{number}", due)
            rooms.step_back(f"d{number}", due)
        elif name == "leave" and waiting[number]:
            rooms.leave(f"d{number}", waiting[number].pop())
        elif name == "give_back" and sent[number]:
            back += 1
            rooms.give_back(where, sent[number][-1], 0)
            waiting[number].append(sent[number].pop())
        total = [each for line in waiting.values() for each in line]
        assert len(rooms) == len(total) <= 8 + back
        assert rooms.size_bytes == sum(each.size_bytes for each in total) <= 120 + 40 * back
        assert set(rooms.deployments()) == {f"d{n}" for n, line in waiting.items() if line}
        for project in (0, 1):
            held = [each for n in (2 * project, 2 * project + 1) for each in waiting[n]]
            assert rooms.project(f"p{project}") == (len(held), sum(each.size_bytes for each in held))
