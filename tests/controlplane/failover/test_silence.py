"""For how long a cluster was silent: only while somebody listened, and by no clock but the listener's."""

from controlplane.failover import Listening, ListeningPolicy, listen

POLICY = ListeningPolicy(pause_s=2.0, return_s=12.0)


def looks(listening: Listening, marker: str, *, from_s: float, to_s: float) -> Listening:
    now_s = from_s
    while now_s <= to_s:
        listening = listen(listening, {"a": marker}, now_s, POLICY)
        now_s += 1.0
    return listening


def test_whoever_begins_to_listen_gives_time_to_be_heard() -> None:
    """Silence counts from the end of that time on, or from the first sign of life."""
    listening = looks(Listening(), "1", from_s=0.0, to_s=20.0)
    assert listening.silent_s("a", "1", 12.0) == 0.0
    assert listening.silent_s("a", "1", 20.0) == 8.0
    heard = looks(looks(Listening(), "1", from_s=0.0, to_s=3.0), "2", from_s=4.0, to_s=9.0)
    assert heard.silent_s("a", "2", 9.0) == 5.0


def test_a_pause_of_the_listener_is_nobodys_silence() -> None:
    """It was stopped for a minute, or its clock leapt: everybody gets time to return."""
    before = looks(looks(Listening(), "1", from_s=0.0, to_s=2.0), "2", from_s=3.0, to_s=5.0)
    for after_s in (65.0, 1.0):
        after = listen(before, {"a": "2"}, after_s, POLICY)
        assert after.silent_s("a", "2", after_s + 11.0) == 0.0


def test_silence_is_of_one_sign_of_life() -> None:
    """What was seen of an older one, or of nobody, says nothing."""
    listening = looks(Listening(), "1", from_s=0.0, to_s=30.0)
    assert listening.silent_s("a", "1", 30.0) > 0.0
    assert listening.silent_s("a", "2", 30.0) == 0.0
    assert listening.silent_s("b", "1", 30.0) == 0.0
    assert listen(listening, {}, 31.0, POLICY).heard == {}
