"""LoRA adapters: where they are loaded, who may load another, and how the choice goes by it."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.workloadplane.routing.test_pick import snapshot
from workloadplane.routing import Policy, ReplicaFacts, RequestFacts, ToReplica, Wait, pick
from workloadplane.routing.adapters import AdapterSlots, Slots, Used, step

BOTH = frozenset({"sql", "law"})


def replicas(*names: str, adapters: frozenset[str] = BOTH) -> tuple[ReplicaFacts, ...]:
    return tuple(ReplicaFacts(name, "r1", True, 8.0, adapters=adapters) for name in names)


def chosen(
    *,
    warm: int = 0,
    may_load: int = -1,
    in_flight: dict[str, int] | None = None,
    adapter: str = "sql",
    **more: object,
) -> ToReplica:
    shot = snapshot(**{"replicas": replicas("a", "b", "c"), "in_flight": in_flight or {}, **more})
    facts = RequestFacts(None, False, adapter=adapter, adapter_warm=warm, adapter_open=may_load)
    choice = pick(facts, shot, Policy(), Random(1))
    assert isinstance(choice, ToReplica)
    return choice


def test_the_replica_that_has_it_comes_first_until_it_is_busy() -> None:
    """Below the policy's load it takes all; above it another one loads it, if it may and is less busy."""
    busy = {"b": 5}
    assert chosen(warm=0b010, in_flight=busy).replica_id == "b"
    busier = {"b": 8}
    spread = chosen(warm=0b010, in_flight=busier)
    assert spread.replica_id in {"a", "c"}
    assert spread.reasons[-1] == "adapter spreads"
    assert chosen(warm=0b010, in_flight=busier, may_load=0b100).replica_id == "c"
    assert chosen(warm=0b010, in_flight=busier, may_load=0).replica_id == "b", "thrash is bounded"
    all_busy = {"a": 7, "b": 8, "c": 7}
    assert chosen(warm=0b010, in_flight=all_busy).replica_id == "b", (
        "loading it would cost more than it saves"
    )


def test_an_adapter_that_is_nowhere_is_loaded_where_that_disturbs_least() -> None:
    """Where one may be loaded, the least loaded of them; where none may, anywhere: a request is not refused for it."""
    assert chosen(may_load=0b101, in_flight={"a": 3}).replica_id == "c"
    assert chosen(may_load=0, in_flight={"a": 3, "b": 1}).replica_id == "c"


def test_only_replicas_that_can_load_it_may_serve_it() -> None:
    """One of a revision without the adapter is no candidate; with none that can, it waits for one."""
    mixed = (*replicas("a", adapters=frozenset()), *replicas("b"))
    assert chosen(replicas=mixed, in_flight={"b": 7}).replica_id == "b"
    facts = RequestFacts(None, False, adapter="poems")
    assert isinstance(pick(facts, snapshot(replicas=replicas("a")), Policy(), Random(1)), Wait)


def test_slots_follow_what_was_asked_for_last() -> None:
    """The longest unused makes way, and after that its replica loads no other for a while."""
    state = AdapterSlots(swap_pause_s=5.0)
    step(state, Slots(("a", "b", None), (2, 1, 0)), 0.0)
    assert state.open(0.0) == 0b011
    for at_s, adapter in ((1.0, "x"), (2.0, "y"), (3.0, "x")):
        step(state, Used(0, adapter), at_s)
    assert (state.warm("x"), state.warm("y"), state.swaps) == (0b001, 0b001, 0)
    step(state, Used(0, "z"), 4.0)
    assert (state.warm("x"), state.warm("y"), state.warm("z")) == (0b001, 0, 0b001)
    assert state.open(5.0) == 0b010
    assert state.open(9.5) == 0b011
    step(state, Slots(("new", "b", None), (2, 1, 0)), 10.0)
    assert state.warm("x") == 0


@given(st.lists(st.tuples(st.sampled_from(["p", "q", "r", "s"]), st.integers(0, 11)), max_size=200))
def test_thrash_is_bounded_however_adapters_are_asked_for(asked: list[tuple[str, int]]) -> None:
    """While some replica has the adapter, none swaps more than once a pause, whatever the order and the load."""
    state = AdapterSlots(swap_pause_s=5.0)
    step(state, Slots(("a", "b"), (2, 2)), 0.0)
    for place, adapter in ((0, "p"), (0, "q"), (1, "r"), (1, "s")):
        step(state, Used(place, adapter), 0.0)
    swaps = 0
    for number, (adapter, load) in enumerate(asked):
        now_s = number * 0.1
        before = state.swaps
        facts = RequestFacts(
            None, False, adapter=adapter, adapter_warm=state.warm(adapter), adapter_open=state.open(now_s)
        )
        shot = snapshot(
            replicas=replicas("a", "b", adapters=frozenset("pqrs")), in_flight={"a": load, "b": 11 - load}
        )
        choice = pick(facts, shot, Policy(), Random(number))
        assert isinstance(choice, ToReplica)
        had = facts.adapter_warm
        step(state, Used("ab".index(choice.replica_id), adapter), now_s)
        if had:
            swaps += state.swaps - before
    assert swaps <= 2 * (1 + len(asked) * 0.1 / 5.0)
