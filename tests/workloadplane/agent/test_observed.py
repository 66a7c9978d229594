"""Deltas of the observed state, against a control plane that loses, repeats and forgets."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.wire_samples import SAMPLES
from workloadplane.agent.observed import ObservedTracker
from workloadplane.protocol.observed import (
    ClusterFacts,
    ObservedDelta,
    ObservedReplica,
    PeerStanding,
    observed_hash,
)
from workloadplane.protocol.sync import SyncRequest

_REQUEST = SAMPLES["sync_request"]
assert isinstance(_REQUEST, SyncRequest)
assert _REQUEST.observed is not None
_SAMPLE = _REQUEST.observed
FACTS = _SAMPLE.facts


def replica(name: str, state: str = "ready") -> ObservedReplica:
    return msgspec.structs.replace(_SAMPLE.replicas[0], replica_id=name, state=state)


class Store:
    """What a control plane does with deltas."""

    def __init__(self) -> None:
        self.replicas: dict[str, ObservedReplica] = {}
        self.generation = 0

    def take(self, delta: ObservedDelta) -> bool:
        """Whether the full state is wanted."""
        if delta.full:
            self.replicas.clear()
        self.replicas.update({r.replica_id: r for r in delta.replicas})
        for gone in delta.gone:
            self.replicas.pop(gone, None)
        self.generation = delta.observed_generation
        return observed_hash(self.replicas) != delta.state_hash


steps = st.lists(
    st.tuples(
        st.dictionaries(
            st.sampled_from("abcd"), st.sampled_from(["starting", "ready", "failed"]), max_size=4
        ),
        st.sampled_from(["heard", "answer lost", "request lost", "forgotten"]),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(steps)
def test_both_sides_agree_whatever_is_lost(history: list[tuple[dict[str, str], str]]) -> None:
    """After lost requests, lost answers and an emptied store, a few good exchanges bring both together."""
    tracker, store = ObservedTracker(0), Store()

    def exchange(fate: str) -> None:
        if fate == "request lost":
            return
        delta = tracker.next_delta()
        full_wanted = delta is not None and store.take(delta)
        if fate != "answer lost":
            tracker.acknowledge(store.generation, full_wanted=full_wanted)

    for states, fate in [*history, ({"a": "ready"}, "heard")]:
        if fate == "forgotten":
            store = Store()
        tracker.update([replica(name, state) for name, state in states.items()], (), FACTS)
        exchange(fate)
    exchange("heard")
    exchange("heard")
    assert store.replicas == dict(tracker.replicas)
    assert not tracker.has_news


def test_only_what_changed_is_sent_and_free_memory_is_no_change() -> None:
    """An idle cluster has nothing to say."""
    tracker = ObservedTracker(7)
    tracker.update([replica("a"), replica("b")], (), FACTS)
    first = tracker.next_delta()
    assert first is not None
    assert (first.full, first.observed_generation) == (True, 8)
    tracker.acknowledge(8, full_wanted=False)
    assert not tracker.update(
        [replica("a"), replica("b")], (), msgspec.structs.replace(FACTS, free_memory_bytes=1)
    )
    assert tracker.next_delta() is None

    assert tracker.update([replica("b", "draining")], (), FACTS)
    second = tracker.next_delta()
    assert second is not None
    assert [r.replica_id for r in second.replicas] == ["b"]
    assert second.gone == ("a",)
    assert not second.full


def test_how_long_a_peer_has_been_lost_is_no_news() -> None:
    """That it is, is: an agent whose peers stay as they are has nothing to report."""

    def seen(state: str, for_s: float) -> ClusterFacts:
        peer = PeerStanding(cluster_id="c", state=state, has_lost=state == "ejected", state_for_s=for_s)
        return msgspec.structs.replace(FACTS, peers=(peer,))

    tracker = ObservedTracker(0)
    assert tracker.update((), (), seen("healthy", 1.0))
    assert not tracker.update((), (), seen("healthy", 3.0))
    assert tracker.update((), (), seen("ejected", 0.1))
