"""Asynchronous work in a world: on spot where it can be, done by its deadline, beside what serves."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from controlplane.simulation.serving.fields import WorldError
from controlplane.simulation.serving.outcome import JobOutcome, Outcome
from controlplane.simulation.serving.playing import Play
from controlplane.simulation.serving.report import html_report
from controlplane.simulation.serving.world import survey
from controlplane.simulation.serving.world_document import world_of
from tests.controlplane.simulation.serving.test_several_regions import apart
from tests.controlplane.simulation.serving.worlds import no_files, seen_of, world

SERVES: dict[str, Any] = {"name": "o", "procurement": "on_demand", "replicas": 4, "usd_per_replica_h": 4}
SPOT: dict[str, Any] = {
    "name": "s",
    "procurement": "spot",
    "replicas": 4,
    "usd_per_replica_h": 1,
    "zone": "b",
}
#: Little to serve: two replicas on demand all the time.
FIELDS: dict[str, Any] = {
    "mode": "request",
    "hours": 3,
    "decide_every_s": 60,
    "arrivals": [{"kind": "poisson", "requests_per_s": 0.05}],
    "autoscaling": {"min_replicas": 2, "max_replicas": 2},
}


def played(*jobs: dict[str, Any], spot: list[int] | None = None, **fields: Any) -> Outcome:
    """``spot``: instances by five minutes; None: always four."""

    def lines(_: str) -> Iterable[str]:
        return [json.dumps({"metadata": {"gap_seconds": 300}, "data": spot})]

    pool = SPOT if spot is None else {**SPOT, "spot_trace": "zone.json"}
    document = world(**{**FIELDS, "pools": [SERVES, pool], "jobs": list(jobs), **fields})
    *_, seen = survey(document, lines)
    return Play(document, seen, "kpa", lines).run()


def only(found: Outcome) -> JobOutcome:
    (job,) = found.jobs
    return job


def test_where_there_is_spot_it_is_done_there_after_its_work_and_a_restart() -> None:
    """To the second; its cost stands beside what serving costs."""
    found = played({"replica_hours": 1, "at_s": 600, "deadline_s": 7200, "restart_s": 120})
    job = only(found)
    assert job.done_s == pytest.approx(600 + 3600 + 120)
    assert (job.late, job.done_share, job.on_demand_hours) == (False, 1.0, 0.0)
    assert job.usd == pytest.approx(3720 / 3600)
    assert found.usd == pytest.approx(2 * 4 * 3)


def test_without_spot_it_is_on_demand_and_kept() -> None:
    """Late it is not, whatever spot does."""
    job = only(played({"replica_hours": 1, "deadline_s": 5400, "restart_s": 60}, spot=[0]))
    assert job.late is False
    assert job.spot_hours == 0
    assert 1 < job.on_demand_hours < 1.2


def test_what_is_taken_back_starts_again_elsewhere_and_waits_where_there_is_time() -> None:
    """Half an hour of spot, half an hour of none, then spot: what was lost is done again, and it is cheap."""
    job = only(
        played({"replica_hours": 1, "deadline_s": 9000, "restart_s": 60}, spot=[4] * 6 + [0] * 6 + [4] * 24)
    )
    assert job.lost == 1
    assert job.late is False
    assert job.done_s is not None
    assert job.done_s > 3600 + 2 * 60
    assert job.spot_hours > 0.8
    assert job.usd < 2


def test_parts_run_side_by_side_and_no_more_than_there_is_room_for() -> None:
    """Four on spot; of eight the others wait for their turn, or go on demand, where two places are left."""
    four = only(played({"replica_hours": 4, "deadline_s": 7200, "replicas": 4, "restart_s": 0}))
    assert four.done_s == pytest.approx(3600)
    eight = only(played({"replica_hours": 8, "deadline_s": 9000, "replicas": 8, "restart_s": 0}))
    assert eight.done_share == pytest.approx(1.0)
    assert eight.done_s is not None
    assert eight.done_s > 4500


def test_who_finds_no_machine_is_late_and_that_is_told() -> None:
    """Everything on demand serves, and there is no spot."""
    autoscaling = {"min_replicas": 4, "max_replicas": 4}
    found = played(
        {"name": "nightly", "replica_hours": 1, "deadline_s": 5400}, spot=[0], autoscaling=autoscaling
    )
    job = only(found)
    assert (job.late, job.done_s, job.done_share, job.usd) == (True, None, 0.0, 0.0)
    document = world()
    page = html_report(document, seen_of(document), [found], "")
    assert "nightly" in page
    assert "Asynchronous work" in page


def test_the_fluid_mode_plays_the_same() -> None:
    """To the second, taken back or not."""
    for spot in (None, [2] * 12 + [0] * 24):
        job = {"replica_hours": 2, "replicas": 2, "deadline_s": 7200}
        assert only(played(job, spot=spot, mode="fluid")) == only(played(job, spot=spot))


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"deadline_s": 100}, "jobs[0].replica_hours is missing: give a number above 0"),
        (
            {"replica_hours": 1, "deadline_s": 3600},
            "jobs[0].deadline_s 3600.0: each of 1 replica needs 3,690 s",
        ),
        (
            {"replica_hours": 1, "at_s": 7200, "deadline_s": 7200},
            "job 1 is due at 14400 s, after the world's end",
        ),
        ({"replica_hours": 1, "deadline_s": 7200, "speed": 2}, "jobs[0].speed 2: no such field"),
        (
            {"replica_hours": 1, "deadline_s": 7200, "replicas": 0},
            "jobs[0].replicas 0: give a number of 1 or more",
        ),
    ],
)
def test_what_cannot_be_promised_or_read_is_named(job: dict[str, Any], said: str) -> None:
    """One sentence."""
    with pytest.raises(WorldError) as error:
        world(**{**FIELDS, "jobs": [job]})
    assert said in str(error.value)


def in_regions(job: dict[str, Any], **failures: Any) -> JobOutcome:
    """Two regions, the second of which is cheaper; little to serve in either."""
    pools = {name: {**SPOT, "usd_per_replica_h": usd} for name, usd in (("one", 2), ("two", 1))}
    document = apart(
        *({"name": name, "pools": [pool, SERVES]} for name, pool in pools.items()),
        round_trip_s={"one": {"two": 0.1}},
        arrivals=[{"kind": "poisson", "requests_per_s": 0.02}],
        hours=0.7,
        decide_every_s=60,
        jobs=[job],
        failures={"gpu_failures_per_gpu_h": 0, **failures},
    )
    played_world = world_of(document)
    return only(Play(played_world, seen_of(played_world), "static:1", no_files).run())


WORK: dict[str, Any] = {"replica_hours": 0.25, "deadline_s": 2400, "restart_s": 60}


def test_of_several_regions_a_job_runs_where_it_is_cheapest_or_where_it_is_told_to() -> None:
    """Beside what serves there."""
    anywhere, there = in_regions(WORK), in_regions({**WORK, "region": "one"})
    assert anywhere.done_s == there.done_s == pytest.approx(900 + 60)
    assert there.usd == pytest.approx(2 * anywhere.usd)
    assert anywhere.usd == pytest.approx(960 / 3600)


@pytest.mark.parametrize("kind", ["lost", "frozen"])
def test_a_job_leaves_a_region_that_is_gone(kind: str) -> None:
    """With what it did until the last look; bound to that region it waits for it."""
    gone = {"regions_lost": [{"region": "two", "at_s": 465, "back_s": 1000, "kind": kind}]}
    anywhere = in_regions(WORK, **gone)
    assert (anywhere.late, anywhere.lost) == (False, int(kind == "lost"))
    assert 960 + 15 + 60 <= (anywhere.done_s or 0) <= 960 + 60 + 60 + 60
    bound = in_regions({**WORK, "region": "two"}, **gone)
    assert 1000 + 450 <= (bound.done_s or 0) <= 1000 + 960 - 450 + 60 + 180


def test_a_region_is_for_worlds_that_have_some() -> None:
    """Else it says so."""
    with pytest.raises(WorldError, match=r"jobs\[0\].region 'one': leave it away: this world has no regions"):
        world(**FIELDS, jobs=[{**WORK, "region": "one"}])
