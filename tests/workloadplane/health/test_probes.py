"""What probes say of a replica."""

from workloadplane.health.probes import ProbePolicy, ProbeResult, judge
from workloadplane.health.replica import ReplicaState

POLICY = ProbePolicy(silent_probes=3, start_limit_s=100.0)
SILENT = ProbeResult(at=0.0, answered=False, message="timeout")
ANSWERED = ProbeResult(at=0.0, answered=True)
PROGRESSED = ProbeResult(at=0.0, answered=False, progressed=True)


def event(state: ReplicaState, *evidence: ProbeResult, now: float = 10.0) -> str | None:
    return judge(evidence, state, POLICY, started_at=0.0, now=now).event


def test_ready_means_a_generated_token() -> None:
    """Progress alone, or no evidence, is not readiness."""
    assert event("starting", SILENT, ANSWERED) == "answered"
    assert event("starting", PROGRESSED) is None
    assert event("starting") is None


def test_silence_counts_only_in_a_row() -> None:
    """An answer, or tokens for others, begin the count anew."""
    assert event("ready", SILENT, SILENT, SILENT) == "silenced"
    assert event("ready", SILENT, SILENT) is None
    assert event("ready", SILENT, SILENT, ANSWERED, SILENT, SILENT) is None
    assert event("ready", SILENT, SILENT, PROGRESSED, SILENT, SILENT) is None


def test_a_start_has_a_limit_and_says_what_it_last_heard() -> None:
    """Overdue at the limit, not before; an answer in time wins."""
    assert event("starting", SILENT, now=99.9) is None
    assert event("starting", SILENT, ANSWERED, now=100.0) == "answered"
    judgement = judge([SILENT], "starting", POLICY, started_at=0.0, now=100.0)
    assert judgement.event == "overdue"
    assert "timeout" in judgement.message


def test_an_unhealthy_replica_recovers_by_answering() -> None:
    """One token is enough."""
    assert event("unhealthy", SILENT, SILENT, SILENT, ANSWERED) == "answered"
    assert event("unhealthy", SILENT) is None
