"""What an observer concludes, alone and with others: each rule by itself. Their interplay is the simulation's."""

from collections.abc import Iterable
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloadplane.health.outlook import (
    Admits,
    Members,
    Outlook,
    OutlookPolicy,
    Seen,
    Sighting,
    Tick,
    admits,
    sightings,
    step,
    suspicion,
    tally,
)
from workloadplane.health.silence import Rhythm, SilencePolicy, beat, phi, unheard
from workloadplane.health.watch import Sign

POLICY = OutlookPolicy()
SILENCE = SilencePolicy()
LOST = Sighting("lost", 2.0)
_TICK_S = 0.1


class Observer:
    """One with its peers. Time passes in ticks, in which those that are ``alive`` answer every 0.4 s."""

    def __init__(self, *names: str) -> None:
        self.now_s = 1000.0
        self.outlook, _ = step(Outlook(), Members(frozenset(names)), self.now_s, POLICY)
        self.alive = set(names)
        self.words: dict[str, dict[str, Sighting]] = {}
        self._ticks = 0

    def sees(self, name: str, sign: Sign, word: dict[str, Sighting] | None = None) -> None:
        self.outlook, changes = step(self.outlook, Seen(name, sign, word, self.now_s), self.now_s, POLICY)
        assert changes == ()

    def runs(self, lasting_s: float) -> None:
        for _ in range(round(lasting_s / _TICK_S)):
            self.now_s += _TICK_S
            self._ticks += 1
            if self._ticks % 4 == 0:
                for name in sorted(self.alive):
                    self.sees(name, "answered", self.words.get(name, {}))
            self.ticks()

    def ticks(self) -> None:
        self.outlook, _ = step(self.outlook, Tick(), self.now_s, POLICY)

    def state(self, name: str) -> str:
        return self.outlook.subjects[name].standing.state

    def admits(self, name: str) -> Admits:
        return admits(self.outlook.subjects[name], POLICY)[0]

    def loses(self, *names: str) -> None:
        self.alive -= set(names)

    def hears_lost(self, subject: str, of: Iterable[str]) -> None:
        """These have lost it, too, and say so in their answers."""
        for name in of:
            self.words[name] = {subject: LOST}


def settled(*names: str) -> Observer:
    observer = Observer(*names)
    observer.runs(4.0)
    assert {observer.state(name) for name in names} == {"healthy"}
    return observer


def test_missing_health_is_not_health() -> None:
    """Before its first answer a peer is suspect; the first answer is enough for one that nobody has lost."""
    observer = Observer("b", "c")
    observer.ticks()
    assert observer.state("b") == "suspect"
    observer.sees("b", "answered")
    observer.ticks()
    assert observer.state("b") == "healthy"
    assert observer.state("c") == "suspect"


def test_of_three_observers_two_eject_and_one_does_not() -> None:
    """What is lost to this observer alone is suspect here, for ever if need be; a second voice ejects it."""
    observer = settled("b", "c", "d")
    observer.loses("d")
    observer.runs(30.0)
    assert observer.state("d") == "suspect"
    assert observer.admits("d") == "stranded"
    observer.hears_lost("d", ["b"])
    observer.runs(0.5)
    assert observer.state("d") == "ejected"
    assert observer.admits("d") == "none"
    count = tally(observer.outlook, "d", observer.now_s, POLICY)
    assert (count.lost, count.observers, count.needed) == (2, 3, 2)


def test_two_observers_must_agree() -> None:
    observer = settled("b", "c")
    observer.loses("c")
    observer.runs(10.0)
    assert observer.state("c") == "suspect"
    observer.hears_lost("c", ["b"])
    observer.runs(0.5)
    assert observer.state("c") == "ejected"


def test_one_alone_decides_alone_and_later() -> None:
    """Nobody is left who could contradict it, so it waits for longer: not 1.5 but 2 seconds."""
    observer = settled("b")
    observer.loses("b")
    observer.runs(1.9)
    assert observer.state("b") == "suspect"
    observer.runs(0.6)
    assert observer.state("b") == "ejected"


def test_others_words_condemn_nobody_whom_this_one_hears() -> None:
    observer = settled("b", "c", "d")
    observer.hears_lost("d", ["b", "c"])
    observer.runs(5.0)
    assert observer.state("d") == "healthy"


def test_old_words_have_no_voice() -> None:
    """The second observer said so once, and has been silent since."""
    observer = settled("b", "c", "d")
    observer.sees("b", "answered", {"d": LOST})
    observer.loses("b", "d")
    observer.runs(3.0)
    assert observer.state("d") == "suspect"


def test_who_has_lost_most_distrusts_itself() -> None:
    """It ejects nobody, and tells nobody that anybody is lost; when it hears again it has its voice back."""
    observer = settled("b", "c", "d")
    observer.loses("b", "c", "d")
    observer.runs(10.0)
    assert observer.outlook.distrusts_itself
    assert {observer.state(name) for name in "bcd"} == {"suspect"}
    assert {told.verdict for told in sightings(observer.outlook, observer.now_s).values()} == {"doubtful"}
    observer.alive = {"b", "c"}
    observer.runs(2.0)
    assert not observer.outlook.distrusts_itself
    assert sightings(observer.outlook, observer.now_s)["d"].verdict == "lost"


def test_refusals_are_no_silence() -> None:
    """Two of three refuse: the observer is not cut off, for that came from there. With another's word both go."""
    observer = settled("b", "c", "d")
    observer.loses("c", "d")
    observer.words["b"] = {"c": LOST, "d": LOST}
    for _ in range(4):
        observer.sees("c", "refused")
        observer.sees("d", "refused")
        observer.runs(0.3)
    assert not observer.outlook.distrusts_itself
    assert (observer.state("c"), observer.state("d")) == ("ejected", "ejected")


def test_a_burst_of_refusals_is_one() -> None:
    """Fifty requests at once meet the same restart."""
    observer = settled("b", "c")
    for _ in range(50):
        observer.sees("c", "refused")
    observer.ticks()
    assert observer.outlook.subjects["c"].verdict == "doubtful"
    assert observer.admits("c") == "sessions"


def test_an_observer_that_slept_blames_nobody() -> None:
    """It was stopped for a minute: it could hear nobody, and nobody is suspect for it."""
    observer = settled("b", "c")
    observer.now_s += 60.0
    observer.ticks()
    assert {observer.state(name) for name in "bc"} == {"healthy"}


def test_errors_in_a_row_are_a_doubt_and_pass() -> None:
    """An own request that is answered, or a few seconds, end it; answers to questions don't."""
    observer = settled("b", "c")
    for _ in range(5):
        observer.sees("b", "failed")
    observer.runs(1.0)
    assert observer.state("b") == "suspect"
    observer.runs(6.0)
    assert observer.state("b") == "healthy"
    for _ in range(5):
        observer.sees("b", "failed")
    observer.ticks()
    observer.sees("b", "served")
    observer.runs(1.0)
    assert observer.state("b") == "healthy"


def test_one_that_says_it_is_not_ready_gets_no_new_sessions() -> None:
    observer = settled("b", "c")
    observer.loses("b")
    for _ in range(20):
        observer.sees("b", "unready")
        observer.runs(0.4)
    assert (observer.state("b"), observer.admits("b")) == ("suspect", "sessions")


def test_who_was_lost_returns_by_the_ramp() -> None:
    """Suspect or ejected: 1, 5, 25, 100 %, five seconds each; the clock of the holds is the observer's."""
    observer = settled("b", "c", "d")
    observer.loses("d")
    observer.runs(3.0)
    observer.alive.add("d")
    shares: list[float] = []
    for _ in range(260):
        observer.runs(0.1)
        state, share = observer.state("d"), admits(observer.outlook.subjects["d"], POLICY)[1]
        if state == "probation" and (not shares or shares[-1] != share):
            shares.append(share)
    assert shares == [0.01, 0.05, 0.25, 1.0]
    assert observer.state("d") == "healthy"


def test_phi_is_what_its_name_says() -> None:
    """-log10 of a normal distribution's tail, after the forgiven pause; 1 and 8 at the two thresholds."""
    rhythm = unheard(SILENCE)
    for times in range(4):
        silent_s = SILENCE.pause_s + SILENCE.interval_s + times * SILENCE.deviation_s_min
        chance = 1.0 - NormalDist().cdf(times)
        assert 10 ** -phi(rhythm, silent_s, SILENCE) == pytest.approx(chance)
    assert phi(rhythm, rhythm.doubt_s, SILENCE) == pytest.approx(1.0, abs=1e-3)
    assert phi(rhythm, rhythm.lost_s, SILENCE) == pytest.approx(8.0, abs=1e-3)
    observer = settled("b")
    assert suspicion(observer.outlook.subjects["b"], observer.now_s, POLICY) < 0.1


@given(st.lists(st.floats(0.0, 60.0), max_size=80))
def test_patience_is_bounded_whatever_was_seen(intervals: list[float]) -> None:
    """However irregular the past: a pause is forgiven, and a loss is found within the bound."""
    rhythm: Rhythm = unheard(SILENCE)
    for interval_s in intervals:
        rhythm = beat(rhythm, interval_s, SILENCE)
        assert SILENCE.pause_s < rhythm.doubt_s <= rhythm.lost_s <= SILENCE.lost_s_max


signs = st.sampled_from(["answered", "unready", "refused", "broken", "served", "failed"])
happenings = st.lists(
    st.tuples(
        st.floats(0.0, 1.5),
        st.one_of(
            st.just(Tick()),
            st.builds(
                Seen,
                st.sampled_from("bcdx"),
                signs,
                st.none() | st.dictionaries(st.sampled_from("abcdx"), st.just(LOST)),
            ),
        ),
    ),
    max_size=40,
)


@given(happenings)
def test_nobody_is_ejected_without_a_quorum_and_strangers_change_nothing(
    happened: "list[tuple[float, Tick | Seen]]",
) -> None:
    """Whatever is seen and told in whatever order."""
    now_s = 10.0
    outlook, _ = step(Outlook(), Members(frozenset("bcd")), now_s, POLICY)
    for passed_s, event in happened:
        now_s += passed_s
        before = outlook
        outlook, changes = step(outlook, event, now_s, POLICY)
        assert set(outlook.subjects) == set("bcd")
        if isinstance(event, Seen) and event.name == "x":
            assert outlook is before
        for change in changes:
            assert isinstance(event, Tick)
            if change.transition.event == "condemned":
                assert 2 * change.tally.lost > change.tally.observers
                assert outlook.subjects[change.name].verdict == "lost"
