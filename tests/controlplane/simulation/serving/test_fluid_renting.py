"""The fluid mode rents as the request mode does: the blend, failures and jobs, with figures that agree."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from controlplane.simulation.serving.outcome import Outcome
from controlplane.simulation.serving.playing import Play
from controlplane.simulation.serving.world import survey
from tests.controlplane.simulation.serving.worlds import world

ZONE = [6, 6, 6, 2, 2, 6, 6, 6, 6, 6]
POOLS: list[dict[str, Any]] = [
    {"name": "r", "procurement": "reserved", "replicas": 2, "usd_per_replica_h": 2, "zone": "a"},
    {
        "name": "s",
        "procurement": "spot",
        "replicas": 6,
        "usd_per_replica_h": 1,
        "zone": "a",
        "spot_trace": "zone",
    },
    {
        "name": "t",
        "procurement": "spot",
        "replicas": 8,
        "usd_per_replica_h": 1.5,
        "zone": "b",
        "hazard_per_h": 0.5,
    },
    {"name": "o", "procurement": "on_demand", "replicas": 10, "usd_per_replica_h": 4, "zone": "a"},
]
BLENDED: dict[str, Any] = {
    "hours": 0.55,
    "arrivals": [{"kind": "daily", "requests_per_s": 5, "swing": 0.5, "peak_hour": 0.4}],
    "lengths": {"input": {"mean": 500, "cv": 0.5}, "output": {"mean": 280, "cv": 0.5}},  # few, but long ones
    "pools": POOLS,
    "procurement": {"kind": "blend", "hold_s": 60},
    "policies": {"in-order": {"kind": "predictive", "procurement": {"kind": "in_order"}}},
    "jobs": [{"replica_hours": 0.5, "replicas": 2, "at_s": 300, "deadline_s": 1600, "restart_s": 60}],
    "failures": {"gpu_failures_per_gpu_h": 0.2},
}


def played(mode: str, policy: str, **fields: Any) -> Outcome:
    """What comes of it, with a zone that has little spot for ten minutes. ``fields``: None: left away."""

    def lines(_: str) -> Iterable[str]:
        return [json.dumps({"metadata": {"gap_seconds": 300}, "data": ZONE})]

    said = {**BLENDED, "mode": mode, **fields}
    document = world(**{name: value for name, value in said.items() if value is not None})
    *_, seen = survey(document, lines)
    return Play(document, seen, policy, lines).run()


@pytest.mark.parametrize("policy", ["predictive", "in-order", "kpa"])
def test_both_modes_agree_on_what_is_rented(policy: str) -> None:
    """Within 1 point of SLO attainment, 2 % of replica-hours and 3 % of money; the same jobs and losses."""
    fluid, by_request = played("fluid", policy), played("request", policy)
    assert fluid.procurement == by_request.procurement
    assert fluid.within_slo == pytest.approx(by_request.within_slo, abs=0.01)
    assert fluid.replica_hours == pytest.approx(by_request.replica_hours, rel=0.02)
    assert fluid.usd == pytest.approx(by_request.usd, rel=0.03)
    assert fluid.lost_replicas == by_request.lost_replicas > 0
    assert fluid.jobs == by_request.jobs
    assert fluid.rented.keys() == by_request.rented.keys()
    assert bool(fluid.reasons) == bool(by_request.reasons) == (policy != "in-order")


def test_where_nothing_is_rented_anew_all_is_to_be_had() -> None:
    """Without blend and jobs the fluid mode fills pools in their order, and nothing fails."""
    fields = {"procurement": None, "policies": None, "jobs": None}
    plain = played("fluid", "kpa", **fields)
    assert (plain.lost_replicas, plain.failed_launches, plain.jobs) == (0, 0, [])
    assert plain.procurement == "in_order"


def test_jobs_alone_make_the_fluid_mode_play_what_fails() -> None:
    """A job and the replicas share the pools, in order."""
    fields = {"procurement": None, "policies": None}
    alone = played("fluid", "kpa", **fields)
    assert alone.procurement == "in_order"
    assert alone.lost_replicas > 0
    (job,) = alone.jobs
    assert (job.late, job.done_share) == (False, 1.0)
