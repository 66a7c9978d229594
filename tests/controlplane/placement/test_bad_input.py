"""Rows that no problem may hold: each is named with its field, its value and what to give instead."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from controlplane.placement import (
    Budget,
    CurrentAssignment,
    Latency,
    NetworkPrice,
    Occupancy,
    PlacementProblem,
    Reservation,
    Slo,
    Weights,
)
from tests.controlplane.placement.rules.test_cost import current, demand, profile
from tests.controlplane.placement.worlds import pool, problem, wanted

NAN = float("nan")


def vars_of(world: PlacementProblem) -> dict[str, Any]:
    return {field.name: getattr(world, field.name) for field in fields(world)}


def latency(rtt_ms: float) -> Latency:
    return Latency(origin_region="paris", target_region="eu", rtt_ms=rtt_ms)


def network(price: int) -> NetworkPrice:
    return NetworkPrice(origin_region="paris", target_region="eu", micro_usd_per_gib=price)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: demand("paris", requests_per_s_p95=-1.0),
            "demand of d-chat from paris: requests_per_s_p95 is -1",
        ),
        (
            lambda: demand("paris", requests_per_s_p95=5e-324, tokens_per_s_p95=0.0),
            "requests_per_s_p95 is 5e-324; give 0, or 1e-06 per second or more",
        ),
        (lambda: demand("paris", tokens_per_s_p50=NAN), "tokens_per_s_p50 is nan; give tokens per second"),
        (
            lambda: demand("paris", requests_per_s_p95=2e6),
            "requests_per_s_p95 is 2000000.0; give requests per",
        ),
        (
            lambda: demand("paris", requests_per_s_p95=60_000.0),
            "tokens_per_request is 0.003.*both rates per second",
        ),
        (lambda: demand("paris", tokens_per_s_p95=1e8), "tokens_per_request is 50000000"),
        (lambda: profile(0.0), "profile of m on i-1: requests_per_s is 0.0; .* above 0"),
        (lambda: profile(1.0, weight_load_s=90_000.0), "weight_load_s is 90000.0; give seconds"),
        (
            lambda: pool("eu", instance_micro_usd_per_h=2_000_000_000),
            "pool on-demand: gpu_micro_usd_per_h is 2000000000",
        ),
        (lambda: pool("eu", hazard_per_h=61.0), "hazard_per_h is 61.0; give the expected losses .* per hour"),
        (lambda: pool("eu", hazard_per_h=NAN), "hazard_per_h is nan"),
        (lambda: pool("eu", obtainability=0.0), "obtainability is 0.0"),
        (lambda: pool("eu", capacity_instances=-1), "capacity_instances is -1; .* 0 or more"),
        (lambda: pool("eu", gpus_per_instance=0), "gpus_per_instance is 0; an instance has 1 GPU or more"),
        (lambda: latency(2001), "latency paris to eu: rtt_ms is 2001; give the round trip in milliseconds"),
        (lambda: latency(-1), "rtt_ms is -1"),
        (lambda: network(-1), "network price paris to eu: micro_usd_per_gib is -1"),
        (lambda: Budget(project_id="p", micro_usd_per_h=-1), "budget of project p: micro_usd_per_h is -1"),
        (lambda: wanted(slo=Slo(ttft_s_p95=0.0)), "deployment chat: slo: ttft_s_p95 is 0.0; give seconds"),
        (lambda: Weights(amortise_h=0), "weights: amortise_h is 0; .* above 0"),
        (
            lambda: wanted(min_replicas=2, max_replicas=1),
            "deployment chat: min_replicas 2, max_replicas 1; give",
        ),
        (lambda: wanted(gpus_per_replica=0), "deployment chat: gpus_per_replica is 0"),
        (
            lambda: wanted(providers_allowed=("aws", "gcp"), providers_denied=("gcp",)),
            "deployment chat: providers_denied names gcp, .*; take it out of one",
        ),
        (lambda: wanted(residency=("",)), "deployment chat: residency names an empty jurisdiction"),
        (
            lambda: Reservation(pool_id="p", instances=-1, instance_micro_usd_per_h=1),
            "reservation of pool p: instances is -1",
        ),
        (lambda: replace(current("p-eu", 1), gpus_per_replica=0), "current a-p-eu: gpus_per_replica is 0"),
        (
            lambda: Occupancy(deployment_id="d", pool_id="p", gpus_per_replica=1, replicas=-1),
            "occupancy of d in pool p: replicas is -1",
        ),
    ],
)
def test_a_value_out_of_its_range_is_named(make: Callable[[], Any], words: str) -> None:
    """The row, the field, the value and the remedy."""
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            {"demands": (demand("paris"), demand("paris"))},
            "demand of d-chat paris is there twice; give each once",
        ),
        ({"profiles": (profile(1), profile(2))}, "profile of m i-1 1 is there twice"),
        ({"latencies": (latency(1), latency(2))}, "latency paris eu is there twice"),
        ({"network_prices": (network(1), network(2))}, "network price paris eu is there twice"),
        ({"budgets": (Budget(project_id="p", micro_usd_per_h=1),) * 2}, "budget of project p is there twice"),
        ({"deployments": (wanted(), wanted())}, "deployment d-chat is there twice"),
        ({"pools": (pool("eu"), pool("eu"))}, "pool p-eu-on_demand is there twice"),
        ({"pools": (pool("mars"),)}, "pool on-demand: cluster_id c-mars is not among the clusters"),
        ({"current": (current("p-mars", 1),)}, "current: pool_id p-mars is not among the pools"),
        (
            {"current": (current("p-eu-on_demand", 1), current("p-eu-on_demand", 2))},
            "current a-p-eu-on_demand is there twice",
        ),
    ],
)
def test_what_is_there_twice_or_refers_to_nothing_is_named(rows: dict[str, Any], words: str) -> None:
    """Before anything is decided."""
    with pytest.raises(ValueError, match=words):
        PlacementProblem(**(vars_of(problem(wanted())) | rows))


def test_what_is_only_unusual_is_taken() -> None:
    """A pool that has nothing now, a demand of nothing, and a deployment that allows what it does not need."""
    assert pool("eu", capacity_instances=0).capacity_instances == 0
    assert demand("paris", requests_per_s_p95=0.0, tokens_per_s_p95=0.0).tokens_per_s_p95 == 0
    assert isinstance(current("p", 0), CurrentAssignment)
