"""What replicas are believed to hold: as routed, as far as their caches reach, never more than the bound."""

import itertools
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from workloadplane.routing.blocks import BLOCK_ENDS
from workloadplane.routing.prefix import (
    Bounds,
    Cleared,
    Fleet,
    PrefixIndex,
    Routed,
    Turned,
    shrink,
    step,
)


def bytes_of(blocks: int) -> int:
    return BLOCK_ENDS[blocks - 1] if blocks else 0


def hashes(name: int, count: int, shared: int = 0) -> list[int]:
    """A chain whose first ``shared`` blocks are everybody's."""
    return [*range(1, shared + 1), *(name * 10_000 + number for number in range(shared, count))]


def index_of(*names: str | None, capacity: int = 10**9, blocks_max: int = 10**9) -> PrefixIndex:
    index = PrefixIndex(Bounds(blocks_max))
    step(index, Fleet(names, (capacity,) * len(names)), 0.0)
    return index


def test_the_longest_prefix_first_with_all_that_hold_at_least_it() -> None:
    """Each level names those that hold so much or more, as bits of their places."""
    index = index_of("a", "b", "c")
    step(index, Routed(0, hashes(1, 8, shared=4)), 0.0)
    step(index, Routed(1, hashes(2, 6, shared=4)), 0.0)
    step(index, Routed(2, hashes(3, 5, shared=2)), 0.0)
    assert index.match(hashes(1, 9, shared=4)) == [
        (bytes_of(8), 0b001), (bytes_of(4), 0b011), (bytes_of(2), 0b111)
    ]  # fmt: skip
    assert index.match(hashes(4, 9, shared=3)) == [(bytes_of(3), 0b011), (bytes_of(2), 0b111)]
    assert index.match(hashes(4, 9)) == []
    assert index.match([]) == []


def test_a_replica_that_goes_takes_what_it_held_with_it() -> None:
    """Its place may be another's at once, who holds nothing; the others keep theirs."""
    index = index_of("a", "b")
    for place in (0, 1):
        step(index, Routed(place, hashes(1, 5)), 0.0)
    step(index, Fleet(("a", "new")), 0.0)
    assert index.match(hashes(1, 5)) == [(bytes_of(5), 0b01)]
    step(index, Cleared(0), 0.0)
    assert index.match(hashes(1, 5)) == []
    assert index.blocks == 0
    assert not index._masks
    step(index, Routed(7, hashes(1, 5)), 0.0)
    assert index.blocks == 0, "nobody is at that place"


def test_belief_reaches_as_far_back_as_the_cache_does() -> None:
    """What was used lately stays, what was not for a cache's worth of other prompts is forgotten."""
    capacity = bytes_of(40)
    index = index_of("a", capacity=capacity)
    step(index, Routed(0, hashes(1, 8)), 0.0)
    step(index, Routed(0, hashes(2, 8)), 0.0)
    for other in range(10, 30):
        step(index, Routed(0, hashes(other, 8)), 0.0)
        step(index, Routed(0, hashes(1, 8)), 0.0)
    assert index.match(hashes(1, 8)) == [(bytes_of(8), 1)]
    assert index.match(hashes(2, 8)) == []
    assert index.match(hashes(29, 8)) == [(bytes_of(8), 1)]
    assert bytes_of(index.blocks) <= capacity * 5 // 4


def test_an_engine_that_says_how_much_it_stores_is_believed() -> None:
    """What was not used for a turn of its cache and a quarter is forgotten, whoever filled it; the rest stays."""
    index = index_of("a")
    step(index, Routed(0, hashes(1, 8)), 0.0)
    step(index, Routed(0, hashes(2, 8)), 0.0)
    for _ in range(9):
        step(index, Turned(0, 0.1), 0.0)
        step(index, Routed(0, hashes(1, 8)), 0.0)
    assert index.match(hashes(2, 8)) == [(bytes_of(8), 1)]
    for _ in range(4):
        step(index, Turned(0, 0.1), 0.0)
        step(index, Routed(0, hashes(1, 8)), 0.0)
    assert index.match(hashes(2, 8)) == []
    assert index.match(hashes(1, 8)) == [(bytes_of(8), 1)]
    step(index, Turned(0, 7.5), 0.0)
    assert index.blocks == 0


def test_the_bound_holds_and_shrinking_ends_at_nothing() -> None:
    """However much is sent, no more pairs are kept than allowed; a shrink forgets the oldest first."""
    index = index_of("a", "b", blocks_max=1000)
    rng = Random(1)
    for number in range(2000):
        step(index, Routed(rng.randrange(2), hashes(number, rng.randrange(1, 60))), 0.0)
    assert index.blocks <= 1000 + 60
    for _ in range(5):
        before = index.blocks
        shrink(index)
        assert index.blocks < before or before == 0
    assert index.blocks == 0


class Believed(RuleBasedStateMachine):
    """Against a plain model with sets: no bounds reached, so nothing is forgotten but what was told."""

    @initialize()
    def begin(self) -> None:
        self.index = index_of("r0", "r1", "r2", blocks_max=10**9)
        self.model: list[set[int]] = [set(), set(), set()]
        self.names = ["r0", "r1", "r2"]
        self.count = 3

    @rule(
        place=st.integers(0, 2), name=st.integers(1, 4), length=st.integers(0, 30), shared=st.integers(0, 10)
    )
    def route(self, place: int, name: int, length: int, shared: int) -> None:
        sent = hashes(name, max(length, shared), shared)
        step(self.index, Routed(place, sent), 0.0)
        self.model[place] |= set(sent)

    @rule(place=st.integers(0, 2))
    def clear(self, place: int) -> None:
        step(self.index, Cleared(place), 0.0)
        self.model[place].clear()

    @rule(place=st.integers(0, 2))
    def replace(self, place: int) -> None:
        self.count += 1
        self.names[place] = f"r{self.count}"
        step(self.index, Fleet(tuple(self.names), (10**9,) * 3), 0.0)
        self.model[place].clear()

    @invariant()
    def agrees(self) -> None:
        assert self.index.blocks == sum(map(len, self.model))
        for name in range(1, 5):
            for shared in (0, 5):
                asked = hashes(name, 30, shared)
                depths = [next((i for i, h in enumerate(asked) if h not in held), 30) for held in self.model]
                levels = self.index.match(asked)
                for place, depth in enumerate(depths):
                    known = next((size for size, bits in levels if bits >> place & 1), 0)
                    assert known == bytes_of(depth)


TestBelieved = Believed.TestCase
TestBelieved.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(1, 50)), max_size=60))
def test_counts_stay_true_under_forgetting(steps: list[tuple[int, int, int]]) -> None:
    """Whatever is forgotten on the way, the count is that of the bits that are set, and levels only grow."""
    index = index_of("a", "b", "c", "d", capacity=bytes_of(60), blocks_max=200)
    for place, name, length in steps:
        step(index, Routed(place, hashes(name, length)), 0.0)
        assert index.blocks == sum(mask.bit_count() for mask in index._masks.values())
        levels = index.match(hashes(name, length))
        assert [size for size, _ in levels] == sorted({size for size, _ in levels}, reverse=True)
        assert all(wide & narrow == narrow for (_, narrow), (_, wide) in itertools.pairwise(levels))
