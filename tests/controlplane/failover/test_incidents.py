"""One incident for each cause, whatever comes when: by example, and for random histories of a fleet."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.failover import (
    ClusterEvidence,
    Finding,
    Folded,
    FoldPolicy,
    Incident,
    JudgementPolicy,
    Place,
    ReplicaEvidence,
    Word,
    findings,
    fold,
    incident_step,
)
from controlplane.failover.incident import INCIDENT_STATES, TRANSITIONS, IncidentEvent
from tests.support.examples import examples
from workloadplane.protocol.refusal import Refusal

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
POLICY = FoldPolicy()
#: cluster -> (region, provider): two regions of aws, one of them with two clusters, and one region of gcp
FLEET = {
    "a1": ("eu-west-1", "aws"),
    "a2": ("eu-west-1", "aws"),
    "b": ("eu-north-1", "aws"),
    "c": ("us-east4", "gcp"),
}
AWS, WEST = Place("provider", "aws"), Place("region", "eu-west-1")
NORTH, EAST = Place("region", "eu-north-1"), Place("region", "us-east4")


def cluster(name: str, lost_to: Sequence[str] = (), **fields: Any) -> ClusterEvidence:
    """Watched by all others of the fleet; lost to these."""
    region, provider = FLEET[name]
    words = tuple(
        Word(
            observer=other,
            state="ejected" if other in lost_to else "healthy",
            has_lost=other in lost_to,
            age_s=1.0,
        )
        for other in FLEET
        if other != name
    )
    sound = ClusterEvidence(name=name, region=region, provider=provider, heard_s=0.5, words=words)
    return replace(sound, **fields)


def replicas(name: str, deployment: str, *, ready: int, failing: int) -> ReplicaEvidence:
    return ReplicaEvidence(
        cluster=name, pool="main", deployment_id=deployment, wanted=4, ready=ready, failing=failing
    )


def dead(name: str, *, unheard_s: float = 1.0) -> ClusterEvidence:
    """To all others and to the control plane."""
    return cluster(
        name, [other for other in FLEET if other != name], heard_s=6 + unheard_s, unheard_s=unheard_s
    )


def found(*changed: ClusterEvidence, reports: Sequence[ReplicaEvidence] = ()) -> tuple[Finding, ...]:
    """All is sound but what is given."""
    given_names = {row.name for row in changed}
    rest = [cluster(name) for name in FLEET if name not in given_names]
    return findings([*changed, *rest], reports, JudgementPolicy())


def of(rows: Sequence[Finding], place: Place) -> Finding:
    return next(row for row in rows if row.place == place)


class History:
    """Look after look."""

    def __init__(self) -> None:
        self.now = NOON
        self.folded = Folded(incidents=(), suspected={})

    def look(self, rows: Sequence[Finding], *, after_s: float = 0.0) -> list[Incident]:
        """What is not resolved and not folded under another, after so many seconds of it."""
        self.now += timedelta(seconds=after_s)
        held = [row for row in self.folded.incidents if row.state != "resolved"]
        self.folded = fold(held, self.folded.suspected, rows, now=self.now, policy=POLICY)
        return [row for row in self.folded.incidents if row.state != "resolved" and row.parent is None]

    def lasting(self, rows: Sequence[Finding], seconds: float) -> list[Incident]:
        self.look(rows)
        return self.look(rows, after_s=seconds)


def test_every_pair_of_state_and_event_has_an_answer() -> None:
    """An event that a state does not know changes nothing, and says what it knows."""
    for state in INCIDENT_STATES:
        for event in get_args(IncidentEvent):
            after = incident_step(state, event)
            assert isinstance(after, Refusal) == ((state, event) not in TRANSITIONS)
            if isinstance(after, Refusal):
                assert state in after.subject


def test_one_observer_never_condemns_alone_and_a_majority_does() -> None:
    """The evidence says how many of how many; the control plane is one of them."""
    one = of(found(cluster("c", ["a1"])), Place("cluster", "c"))
    assert (one.health, one.cause, one.lost_to, one.observers) == ("failing", "cut_off", 1, 4)
    agent = of(found(cluster("c", unheard_s=60.0, heard_s=66.0)), Place("cluster", "c"))
    assert (agent.cause, agent.lost_to, agent.observers) == ("unheard", 1, 4), "it serves on"
    assert "its agent is not heard, lost to 1 of 4 observers" in agent.evidence
    three = of(found(cluster("c", ["a1", "a2", "b"])), Place("cluster", "c"))
    assert (three.cause, three.state, three.lost_to) == ("lost", "ejected", 3)
    assert three.evidence == "ejected, lost to 3 of 4 observers, 1.0 s ago"
    assert of(found(dead("c")), Place("cluster", "c")).lost_to == 4


def test_where_nobody_else_watches_the_control_plane_decides_alone_and_later() -> None:
    """One cluster: 20 s past its lease. Two that are both silent: then it is the control plane that is cut off."""
    lonely = ClusterEvidence(name="x", region="r", provider="p", heard_s=21.0, unheard_s=15.0)
    policy = JudgementPolicy()
    assert of(findings([lonely], [], policy), Place("cluster", "x")).cause == "unheard"
    late = ClusterEvidence(name="x", region="r", provider="p", heard_s=26.0, unheard_s=20.0)
    assert of(findings([late], [], policy), Place("cluster", "x")).cause == "lost"
    other = ClusterEvidence(name="y", region="r2", provider="p", heard_s=26.0, unheard_s=20.0)
    both = findings([late, other], [], policy)
    assert of(both, Place("provider", "p")).cause == "unheard", (
        "a warning, for it may be the one that is deaf"
    )
    deaf = ClusterEvidence(name="x", region="r", provider="p", heard_s=3600.0, unheard_s=3594.0, is_deaf=True)
    assert of(findings([deaf], [], policy), Place("cluster", "x")).health == "unknown"


def test_missing_health_is_not_health() -> None:
    """Replicas of a cluster that is not heard, and a cluster that never was, are neither sound nor failing."""
    rows = found(dead("c"), reports=[replicas("c", "chat", ready=4, failing=0)])
    assert of(rows, Place("replica", "c/main/chat")).health == "unknown"
    never = of(found(cluster("c", heard_s=None)), Place("cluster", "c"))
    assert (never.health, never.evidence) == ("unknown", "its agent was never heard")


def test_a_lost_region_is_one_incident_with_its_clusters_and_forty_replicas_in_it() -> None:
    """And it ends when all of it has been sound for a while."""
    reports = [replicas("a1", f"d{number}", ready=0, failing=4) for number in range(40)]
    history = History()
    (incident,) = history.lasting(found(dead("a1"), dead("a2"), reports=reports), 30)
    assert (incident.place, incident.cause, incident.severity) == (WEST, "lost", "error")
    assert incident.members == {WEST, Place("cluster", "a1"), Place("cluster", "a2")}
    back = found(reports=[replicas("a1", "d0", ready=4, failing=0)])
    (incident,) = history.look(back, after_s=1)
    assert incident.state == "recovering"
    assert history.look(back, after_s=59) != []
    assert history.look(back, after_s=1) == []


def test_a_provider_is_lost_when_all_its_regions_are_and_theirs_are_folded_under_it() -> None:
    """One page, whichever was first; nothing of it is forgotten when half of it is back."""
    history = History()
    (west,) = history.look(found(dead("a1"), dead("a2")))
    assert west.place == WEST
    all_dead = found(dead("a1"), dead("a2"), dead("b"))
    (aws,) = history.look(all_dead, after_s=5)
    assert aws.place == AWS
    assert {row.place: row.parent for row in history.folded.incidents} == {AWS: None, WEST: AWS}
    (aws,) = history.lasting(found(dead("b")), 120)
    assert (aws.place, aws.state) == (AWS, "open"), "its other region is still lost"
    assert NORTH in aws.members
    (aws,) = history.look(found(), after_s=1)
    assert aws.state == "recovering"
    assert history.look(found(), after_s=60) == []


def test_the_only_region_of_a_provider_is_a_region() -> None:
    """Nobody can tell which of the two it is."""
    (incident,) = History().look(found(dead("c")))
    assert incident.place == EAST


def test_what_returns_and_fails_again_is_the_same_incident() -> None:
    """A region on its ramp is recovering; a cluster of it that fails meanwhile opens it again."""
    history = History()
    history.look(found(dead("c")))
    ramp = cluster("c", words=(Word(observer="b", state="probation", has_lost=False, age_s=0.5),))
    (incident,) = history.lasting(found(ramp), 300)
    assert (incident.state, incident.sound_since) == ("recovering", None), "a ramp is not soundness"
    (incident,) = history.look(found(dead("c")), after_s=1)
    assert (incident.state, incident.opened_at) == ("open", NOON)


def test_silence_in_recovery_ends_nothing() -> None:
    """Who was lost and is unknown now stays an incident, for however long."""
    history = History()
    history.look(found(dead("c")))
    (incident,) = history.lasting(found(cluster("c", unheard_s=1.0, heard_s=7.0)), 3600)
    assert incident.state == "open"
    history.look(found(), after_s=1)
    (incident,) = history.lasting(found(cluster("c", unheard_s=1.0, heard_s=7.0)), 3600)
    assert incident.state == "recovering"


def test_a_short_trouble_of_replicas_is_no_incident_and_two_deployments_make_it_the_pools() -> None:
    """Twenty seconds of failing; a pool where nobody is ready and several fail is the cause itself."""
    one = found(
        reports=[replicas("c", "chat", ready=1, failing=2), replicas("c", "code", ready=4, failing=0)]
    )
    history = History()
    assert history.lasting(one, 19) == []
    (incident,) = history.look(one, after_s=1)
    assert (incident.place, incident.severity) == (Place("replica", "c/main/chat"), "warning")
    two = found(
        reports=[replicas("c", "chat", ready=0, failing=4), replicas("c", "code", ready=0, failing=4)]
    )
    (incident,) = history.lasting(two, 20)
    assert incident.place == Place("pool", "c/main")
    assert len(incident.members) == 3


def test_a_warning_becomes_an_error_with_what_it_is_about() -> None:
    """Not heard at first, then lost to those who watch: the cluster's warning is a part of the region's error."""
    history = History()
    (warning,) = history.look(found(cluster("c", unheard_s=10.0, heard_s=16.0)))
    assert (warning.place, warning.severity) == (Place("cluster", "c"), "warning")
    (error,) = history.look(found(dead("c", unheard_s=11.0)), after_s=1)
    assert (error.place, error.severity) == (EAST, "error")


def test_what_is_retired_is_waited_for_no_longer() -> None:
    """A place that is gone from the fleet ends nothing of the others, and its own."""
    history = History()
    history.look(found(dead("c")))
    without = tuple(
        row for row in found() if row.place not in (EAST, Place("cluster", "c"), Place("provider", "gcp"))
    )
    (incident,) = history.look(without, after_s=1)
    assert incident.state == "recovering"
    assert history.look(without, after_s=60) == []


def test_what_is_retired_is_told_of_where_its_region_is_told_of() -> None:
    """A cluster's incident lies in its region's; retired, it follows that one into its provider's."""
    history = History()
    history.look(found(cluster("a2", unheard_s=10.0, heard_s=16.0)))
    (west,) = history.look(found(dead("a1"), dead("a2")), after_s=1)
    assert west.place == WEST
    without = findings([dead("a1"), dead("b"), cluster("c")], (), JudgementPolicy())
    (aws,) = history.look(without, after_s=1)
    assert aws.place == AWS
    parents = {row.place: row.parent for row in history.folded.incidents}
    assert parents == {AWS: None, WEST: AWS, Place("cluster", "a2"): AWS}


# Random histories.


@st.composite
def worlds(draw: st.DrawFn) -> tuple[tuple[Finding, ...], float]:
    """How everything stands at one look, and how long after the one before."""
    rows, reports = [], []
    for name in FLEET:
        mood = draw(
            st.sampled_from(["sound", "sound", "dead", "unheard", "cut_off", "ramp", "fenced", "silent"])
        )
        rows.append(
            {
                "sound": cluster(name),
                "dead": dead(name),
                "unheard": cluster(name, unheard_s=30.0, heard_s=36.0),
                "cut_off": cluster(name, [next(other for other in FLEET if other != name)]),
                "ramp": cluster(
                    name, words=(Word(observer="z", state="probation", has_lost=False, age_s=1.0),)
                ),
                "fenced": cluster(name, fenced=True),
                "silent": cluster(name, unheard_s=1.0, heard_s=7.0),
            }[mood]
        )
        for deployment in ("chat", "code"):
            ready = draw(st.integers(0, 4))
            reports.append(replicas(name, deployment, ready=ready, failing=draw(st.integers(0, 4 - ready))))
    gone = draw(st.sampled_from([None, None, None, *FLEET]))
    kept = [row for row in rows if row.name != gone]
    kept_reports = [row for row in reports if row.cluster != gone]
    return findings(kept, kept_reports, JudgementPolicy()), draw(st.sampled_from([0.0, 2.0, 15.0, 61.0]))


def lineage(rows: Sequence[Finding], place: Place) -> list[Place]:
    by_place = {row.place: row for row in rows}
    above = []
    while place in by_place and (within := by_place[place].within) is not None:
        above.append(within)
        place = within
    return above


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(worlds(), min_size=1, max_size=8), st.randoms())
def test_whatever_the_history_there_is_one_incident_for_each_cause(
    history: list[tuple[tuple[Finding, ...], float]], rng: random.Random
) -> None:
    """In any order, as often as one looks, nothing that is open is lost, and nothing ends while a part of it fails."""
    now, folded = NOON, Folded(incidents=(), suspected={})
    for rows, after_s in history:
        now += timedelta(seconds=after_s)
        held = [row for row in folded.incidents if row.state != "resolved"]
        before = folded
        folded = fold(held, before.suspected, rows, now=now, policy=POLICY)
        shuffled_rows, shuffled_held = list(rows), list(held)
        rng.shuffle(shuffled_rows)
        rng.shuffle(shuffled_held)
        assert fold(shuffled_held, before.suspected, shuffled_rows, now=now, policy=POLICY) == folded
        alive = [row for row in folded.incidents if row.state != "resolved"]
        again = fold(alive, folded.suspected, rows, now=now, policy=POLICY)
        assert [row for row in again.incidents if row.state != "resolved"] == alive
        health = {row.place: row.health for row in rows}
        by_place = {row.place: row for row in folded.incidents}
        assert {row.place for row in held} <= by_place.keys(), "nothing that was open is lost"
        pages = {row.place for row in alive if row.parent is None}
        for row in alive:
            assert row.parent is None or row.parent in pages, "what is folded is under one that is open"
            assert not pages.intersection(lineage(rows, row.place)) or row.parent is not None
        for place, since in folded.suspected.items():
            if now - since >= timedelta(seconds=20):
                assert sum(place in by_place[page].members for page in pages) == 1, (
                    "in one page, and only one"
                )
        for row in folded.incidents:
            healths = {health[place] for place in row.members if place in health}
            if row.state == "resolved":
                assert healths <= {"sound"}
                assert row.sound_since is not None
                assert now - row.sound_since >= timedelta(seconds=60)
            if "failing" in healths:
                assert row.state == "open"
