"""A region is lost and its standby takes over: never do two serve, and it does not take longer than promised."""

import os
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controlplane.failover import PromotionPolicy
from tests.controlplane.failover import takeover_world
from tests.controlplane.failover.takeover_world import NAMES, World

SCHEDULES = int(os.environ.get("MERIDIAN_SCHEDULES", "100"))

names = st.sampled_from(NAMES)
observers = st.sampled_from((0, 1))


class Takeover(RuleBasedStateMachine):
    """Two control planes at once, calls and looks that are held up anywhere, clocks that are wrong, back-ups that
    are restored: whatever comes in whichever order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(data=st.data())
    def clocks(self, data: st.DataObject) -> None:
        for region in self.world.regions.values():
            region.rate = data.draw(st.floats(0.999, 1.001))
            region.offset_s = data.draw(st.sampled_from((-300.0, 0.0, 300.0)))
        self.world.settle(None)

    @rule(name=names)
    def call(self, name: str) -> None:
        self.world.call(name)

    @rule(name=names)
    def call_is_begun(self, name: str) -> None:
        self.world.begin(name)

    @rule(name=names)
    def call_is_written(self, name: str) -> None:
        self.world.write(name)

    @rule(name=names)
    def news_is_read(self, name: str) -> None:
        self.world.read(name)

    @rule(name=names)
    def call_is_answered(self, name: str) -> None:
        self.world.answer(name)

    @rule(observer=observers)
    def look_begins(self, observer: int) -> None:
        self.world.look(self.world.observers[observer])

    @rule(observer=observers)
    def look_ends(self, observer: int) -> None:
        if self.world.observers[observer].read is not None:
            self.world.settle(self.world.observers[observer])

    @rule(observer=observers, seconds=st.integers(1, 20), heard=st.sets(names))
    def time_goes_by_as_usual(self, observer: int, seconds: int, heard: set[str]) -> None:
        """Some are heard every second, the others are cut off; somebody observes."""
        for _ in range(seconds):
            self.world.now_s += 1.0
            for name in sorted(heard):
                self.world.call(name)
            self.world.look(self.world.observers[observer])
            self.world.settle(self.world.observers[observer])
            self.never_do_two_serve()

    @rule()
    def somebody_else_compiles(self) -> None:
        self.world.settle(None)

    @rule(first=names, second=names)
    def the_plan_changes(self, first: str, second: str) -> None:
        self.world.database.plan = tuple(dict.fromkeys((first, second)))
        if self.world.database.promoted not in self.world.database.plan[1:]:
            self.world.database.promoted = None
        self.world.settle(None)

    @rule(name=names)
    def replicas_die_or_return(self, name: str) -> None:
        self.world.ready[name] = not self.world.ready[name]

    @rule(passes_s=st.floats(0.1, 15.0))
    def time_passes(self, passes_s: float) -> None:
        self.world.now_s += passes_s

    @rule()
    def back_up(self) -> None:
        self.world.back_up()

    @rule()
    def restore(self) -> None:
        self.world.restore()

    @invariant()
    def never_do_two_serve(self) -> None:
        assert len(self.world.serving()) <= 1, f"{self.world.serving()} serve at once"

    @invariant()
    def who_serves_keeps_nobody_waiting(self) -> None:
        seat = self.world.database.seat
        assert seat.serving is None or not seat.yielding


TestTakeover = Takeover.TestCase
TestTakeover.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


STEPS = (World.begin, World.write, World.read, World.answer)


def schedule(seed: int, *, ticks: int = 500) -> set[str]:
    """A world in which, by chance, calls and looks take long, regions are cut off for a while, replicas die, plans
    change and back-ups return; every tick of 50 to 500 ms is checked. Who served."""
    rng = random.Random(seed)
    world = World()
    for region in world.regions.values():
        region.rate, region.offset_s = rng.uniform(0.999, 1.001), rng.choice((-300.0, 0.0, 300.0))
    world.settle(None)
    haste = {name: rng.choice((0.2, 0.6, 0.95)) for name in NAMES}
    at = dict.fromkeys(NAMES, 0)
    cut_until_s = dict.fromkeys(NAMES, 0.0)
    paused_until_s = [0.0, 0.0 if seed % 2 else float("inf")]
    served: set[str] = set()
    for _ in range(ticks):
        world.now_s += rng.uniform(0.05, 0.5)
        for name in NAMES:
            if rng.random() < 0.01:
                cut_until_s[name] = world.now_s + rng.uniform(1.0, 25.0)
            if world.now_s < cut_until_s[name] and at[name] % 4 == 0:
                continue  # a call that is on its way arrives all the same
            while rng.random() < haste[name]:
                STEPS[at[name] % 4](world, name)
                at[name] += 1
                served.update(world.serving())
                assert len(world.serving()) <= 1, f"seed {seed}: {world.serving()}"
        for number, observer in enumerate(world.observers):
            if rng.random() < 0.005:
                paused_until_s[number] = world.now_s + rng.uniform(1.0, 20.0)
            if world.now_s < paused_until_s[number]:
                continue
            if observer.read is None:
                world.look(observer)
            if rng.random() < 0.8:
                world.settle(observer)
        _by_chance(world, rng)
        assert len(world.serving()) <= 1, f"seed {seed}: {world.serving()}"
    return served


def _by_chance(world: World, rng: random.Random) -> None:
    if rng.random() < 0.1:
        world.settle(None)
    if rng.random() < 0.01:
        world.ready[rng.choice(NAMES)] ^= True
    if rng.random() < 0.01:
        world.database.plan = tuple(rng.sample(NAMES, 2))
        world.database.promoted = None
        world.settle(None)
    if rng.random() < 0.01:
        world.back_up()
    if rng.random() < 0.005:
        world.restore()


def test_never_do_two_serve_whatever_the_schedule() -> None:
    """A seed that fails is named and can be run again. ``MERIDIAN_SCHEDULES`` says how many there are."""
    busy = sum(len(schedule(seed)) > 1 for seed in range(SCHEDULES))
    assert busy > 0.9 * SCHEDULES, "in most of them service has moved"


def run(world: World, seconds: float, rng: random.Random, alive: set[str]) -> list[tuple[float, list[str]]]:
    """Time in tenths of a second: agents are heard every second at moments of their own, an observer looks twice a
    second. When who serves has changed, and to whom."""
    seen: list[tuple[float, list[str]]] = []
    phase = {name: rng.randrange(10) for name in NAMES}
    for tick in range(int(seconds * 10)):
        world.now_s += 0.1
        for name in sorted(alive):
            if tick % 10 == phase[name]:
                world.call(name)
        if tick % 5 == 0:
            world.look(world.observers[0])
            world.settle(world.observers[0])
            for name in sorted(alive):
                world.call(name)  # a table that is made wakes the calls that are held
        assert len(world.serving()) <= 1
        if not seen or seen[-1][1] != world.serving():
            seen.append((world.now_s, world.serving()))
    return seen


@pytest.mark.parametrize("seed", range(20))
def test_a_standby_takes_over_in_time(seed: int) -> None:
    """At most the lease, its margin and a look after the last call of the region that was lost: 8 s; and the lost
    region, when it returns, does not take it back."""
    rng = random.Random(seed)
    world = World()
    world.settle(None)
    assert run(world, 20.0, rng, set(NAMES))[-1][1] == ["a"]
    lost_at = world.now_s
    changes = run(world, 15.0, rng, {"b", "c"})
    assert changes[-1][1] == ["b"]
    assert changes[-1][0] - lost_at <= 8.0
    assert run(world, 30.0, rng, set(NAMES))[-1][1] == ["b"], "it stands by now"


def test_a_region_without_replicas_hands_over_at_once() -> None:
    """It is heard, so its gateways say that they have stopped: nobody waits for a lease."""
    rng = random.Random(1)
    world = World()
    world.settle(None)
    run(world, 20.0, rng, set(NAMES))
    world.ready["a"] = False
    changes = run(world, 8.0, rng, set(NAMES))
    assert changes[-1][1] == ["b"]
    assert changes[-1][0] - changes[-2][0] <= 1.1, "so long nobody serves"


def test_the_property_fails_where_the_lease_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asserted above can fail: with a lease cut short two serve."""
    monkeypatch.setattr(takeover_world, "LEASE_S", 1.0)
    monkeypatch.setattr(takeover_world, "PROMOTION", PromotionPolicy(silent_s=1.0, heard_s=4.0))
    rng = random.Random(3)
    world = World()
    world.settle(None)
    run(world, 20.0, rng, set(NAMES))
    with pytest.raises(AssertionError):
        run(world, 15.0, rng, {"b", "c"})
