"""Pauses that grow, and stay inside their bounds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from workloadplane.agent.backoff import CRASH_CAP_S, CrashRecord, after_end, pause_s, start_not_before


def test_a_steady_replica_is_replaced_at_once_however_often() -> None:
    """Only ends that come too early slow the next start."""
    record = CrashRecord()
    for now in range(100, 200, 20):
        record = after_end(record, now=float(now), ready_for_s=15.0)
        assert start_not_before(record) <= now


def test_ends_while_starting_wait_twice_as_long_each_time() -> None:
    """The first is free; then 1, 2, 4 seconds, to a cap; one steady life forgives all."""
    record, waits = CrashRecord(), []
    for _ in range(30):
        record = after_end(record, now=1000.0, ready_for_s=None)
        waits.append(max(0.0, start_not_before(record) - 1000.0))
    assert waits[:5] == [0.0, 1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == CRASH_CAP_S
    assert start_not_before(after_end(record, now=1000.0, ready_for_s=60.0)) == 0.0


@settings(deadline=None)
@given(failures=st.integers(0, 10_000), random=st.floats(0, 1, exclude_max=True))
def test_pauses_between_calls_are_bounded_and_jittered(failures: int, random: float) -> None:
    """Between half the base and the cap."""
    pause = pause_s(failures, base_s=0.5, cap_s=10.0, random=random)
    assert 0.25 <= pause <= 10.0
