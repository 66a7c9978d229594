import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloadplane.engines.simulator.batching import BatchModel, ContinuousBatch, Emission, Work


def model(**changes: float) -> BatchModel:
    facts: dict[str, float] = {
        "prefill_tokens_per_s": 1000.0,
        "step_base_s": 0.01,
        "step_per_sequence_s": 0.001,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 1000,
        "kv_capacity_tokens": 1600,
        "block_tokens": 16,
    }
    return BatchModel(**{**facts, **changes})  # type: ignore[arg-type]


def work(work_id: int, prompt: int, output: int, *, seed: int | None = None) -> Work:
    base = (work_id if seed is None else seed) * 1000
    return Work(work_id, prompt, output, tuple(base + block for block in range((prompt + output) // 16)))


def run(batch: ContinuousBatch) -> list[Emission]:
    emitted = []
    while batch.next_at_s is not None:
        emitted += batch.advance(batch.next_at_s)
    return emitted


def test_time_to_first_token_is_the_prompt_and_then_steps_follow() -> None:
    """A lone request waits for its prefill and one step per token, by the stated formula."""
    batch = ContinuousBatch(model())
    batch.submit(work(1, 100, 3), now_s=5.0)
    times = [emission.at_s for emission in run(batch)]
    assert times == pytest.approx([5.0 + 0.01 + 0.1, 5.121, 5.132])


def test_a_long_prompt_is_computed_in_chunks_beside_others_decoding() -> None:
    """A prompt longer than the token budget takes several steps, and a running stream goes on meanwhile."""
    batch = ContinuousBatch(model(max_num_batched_tokens=101))
    batch.submit(work(1, 10, 20), now_s=0.0)
    batch.advance(0.02)
    batch.submit(work(2, 300, 1), now_s=0.02)
    emitted = run(batch)
    first_of_two = next(place for place, emission in enumerate(emitted) if emission.work_id == 2)
    assert 2 <= sum(1 for emission in emitted[:first_of_two] if emission.work_id == 1) <= 6


def test_seats_are_limited_and_given_in_order() -> None:
    """With ``max_num_seqs`` seats taken the next request waits until one is free."""
    batch = ContinuousBatch(model(max_num_seqs=1))
    batch.submit(work(1, 10, 2), now_s=0.0)
    batch.submit(work(2, 10, 2), now_s=0.0)
    assert (batch.running, batch.waiting) == (1, 1)
    emitted = run(batch)
    assert [emission.work_id for emission in emitted] == [1, 1, 2, 2]
    assert batch.queued_s(2) == pytest.approx(emitted[1].at_s)


def test_a_repeated_prompt_is_not_computed_again() -> None:
    """The prefix cache spares all full blocks but leaves at least one token to compute."""
    batch = ContinuousBatch(model())
    batch.submit(work(1, 160, 1, seed=7), now_s=0.0)
    run(batch)
    batch.submit(work(2, 160, 1, seed=7), now_s=10.0)
    (second,) = run(batch)
    assert batch.cached_tokens(2) == 144
    assert second.at_s == pytest.approx(10.0 + 0.01 + 0.016)
    assert batch.counters.prefix_cache_queries == 320
    assert batch.counters.prefix_cache_hits == 144


def test_without_room_the_youngest_makes_way_and_is_still_finished() -> None:
    """Sequences that outgrow the KV cache preempt the youngest; every token still comes out once."""
    batch = ContinuousBatch(model(kv_capacity_tokens=160))
    for work_id in (1, 2, 3):
        batch.submit(work(work_id, 40, 60), now_s=0.0)
    emitted = run(batch)
    assert batch.counters.preemptions > 0
    for work_id in (1, 2, 3):
        positions = [emission.position for emission in emitted if emission.work_id == work_id]
        assert positions == list(range(60))


def test_an_aborted_request_gives_its_seat_and_blocks_back() -> None:
    """After an abort nothing more comes of it and the next one takes its place."""
    batch = ContinuousBatch(model(max_num_seqs=1))
    batch.submit(work(1, 160, 500), now_s=0.0)
    batch.submit(work(2, 10, 1), now_s=0.0)
    batch.advance(0.5)
    assert batch.abort(1)
    assert not batch.abort(1)
    assert {emission.work_id for emission in run(batch)} == {2}
    assert batch.kv_cache_usage == 0.0


def test_a_request_that_can_never_fit_is_refused_at_once() -> None:
    """Prompt and answer beyond the whole cache would wait for ever."""
    batch = ContinuousBatch(model(kv_capacity_tokens=160))
    with pytest.raises(ValueError, match="exceed 160"):
        batch.submit(work(1, 100, 61), now_s=0.0)


@given(
    st.lists(
        st.tuples(st.integers(1, 120), st.integers(1, 40), st.integers(0, 2), st.floats(0, 0.2)), max_size=25
    ),
    st.integers(1, 6),
    st.integers(1, 200),
)
def test_every_token_comes_out_once_in_order(
    requests: list[tuple[int, int, int, float]], seats: int, budget: int
) -> None:
    """Whatever arrives when, under seats, budget and cache: all tokens, in order, time never runs back."""
    batch = ContinuousBatch(model(max_num_seqs=seats, max_num_batched_tokens=budget, kv_capacity_tokens=240))
    now_s = 0.0
    emitted: list[Emission] = []
    for work_id, (prompt, output, seed, pause_s) in enumerate(requests):
        now_s += pause_s
        emitted += batch.advance(now_s)
        batch.submit(work(work_id, prompt, output, seed=seed), now_s=now_s)
        assert batch.running <= seats
        assert batch.kv_cache_usage <= 1.0
    emitted += run(batch)
    for work_id, (_, output, _, _) in enumerate(requests):
        positions = [emission.position for emission in emitted if emission.work_id == work_id]
        assert positions == list(range(output))
    times = [emission.at_s for emission in emitted]
    assert times == sorted(times)
    assert batch.kv_cache_usage == 0.0
    assert (batch.running, batch.waiting) == (0, 0)
