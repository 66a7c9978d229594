from hypothesis import given
from hypothesis import strategies as st

from workloadplane.engines.simulator.kvcache import KvCache


def test_a_common_beginning_is_held_once() -> None:
    """Two sequences with the same first blocks use them together, and each keeps them alive for the other."""
    cache = KvCache(capacity_blocks=4)
    cache.take((), 2)
    cache.publish(11)
    cache.publish(12)
    cache.take((11, 12), 1)
    assert cache.used_blocks == 3
    cache.release((11, 12), 0)
    assert cache.matching_blocks((11, 12, 13)) == 2
    assert cache.used_blocks == 3


def test_unused_blocks_go_oldest_first_and_tail_first() -> None:
    """What nobody uses stays findable until room is needed; of one sequence the tail goes before the head."""
    cache = KvCache(capacity_blocks=4)
    for hashes in ((1, 2), (3, 4)):
        cache.take((), 2)
        for block_hash in hashes:
            cache.publish(block_hash)
        cache.release(hashes, 0)
    assert cache.usage == 0.0
    cache.take((), 1)
    assert cache.matching_blocks((1, 2)) == 1
    assert cache.matching_blocks((3, 4)) == 2
    cache.take((), 2)
    assert cache.matching_blocks((1,)) == 0
    assert cache.matching_blocks((3, 4)) == 1


def test_waking_an_unused_block_counts_against_the_room() -> None:
    """A block that would be found again needs room like a fresh one."""
    cache = KvCache(capacity_blocks=2)
    cache.take((), 1)
    cache.publish(1)
    cache.release((1,), 0)
    assert cache.can_take((1,), 1)
    assert not cache.can_take((1,), 2)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), max_size=60))
def test_never_more_blocks_than_there_are(steps: list[tuple[int, int]]) -> None:
    """However sequences come and go, blocks in use never exceed the capacity, and all come back."""
    cache = KvCache(capacity_blocks=8)
    held: list[tuple[int, ...]] = []
    for prefix, length in steps:
        hashes = tuple(prefix * 100 + place for place in range(length))
        shared = hashes[: cache.matching_blocks(hashes)]
        if cache.can_take(shared, length - len(shared)):
            cache.take(shared, length - len(shared))
            for block_hash in hashes[len(shared) :]:
                cache.publish(block_hash)
            held.append(hashes)
        elif held:
            cache.release(held.pop(0), 0)
        assert cache.used_blocks <= cache.capacity_blocks
    for hashes in held:
        cache.release(hashes, 0)
    assert cache.used_blocks == 0
