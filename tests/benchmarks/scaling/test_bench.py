"""The bench itself: traces are read, every policy is searched for in the same way, and what is told is what was run."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from controlplane.simulation.serving import LoadSeries
from tests.benchmarks.scaling import traces
from tests.benchmarks.scaling.kpa_cases import steps_that_differ
from tests.benchmarks.scaling.policies import CONTENDERS, KPA_900, foreseeing, shifted
from tests.benchmarks.scaling.tuning import World, best_static, keepable, tune
from workloadplane.autoscaling import PredictiveTuning

#: Of knative/serving, pkg/autoscaler/scaling/autoscaler_test.go: facts, written anew.
CASES = {
    "defaults": {"panic_threshold": 2, "up": 10, "down": 10, "stable_window_s": 60, "reachable": True},
    "cases": [
        {
            "name": "activation",
            "cfg": {"target": 10, "act": 2},
            "steps": [[0, 1, 0, 0, 0, None], [0, 1, 1, 0, 2, None]],
        },
        {
            "name": "a panic that began before",
            "cfg": {"target": 1, "panic_since": -5, "mpp": 5},
            "steps": [[0, 5, 50, 30, 50, None]],
        },
        {
            "name": "delay",
            "cfg": {"target": 10, "panic": 100, "delay": 300},
            "steps": [[2, 0, 40, 40, 4, None], [300, 0, 0, 0, 4, None], [302, 0, 0, 0, 0, None]],
        },
    ],
}


def test_cases_in_the_files_format_are_played_step_by_step() -> None:
    assert steps_that_differ(CASES) == (6, [])
    wrong = {**CASES, "cases": [{"name": "wrong", "cfg": {"target": 10}, "steps": [[0, 1, 50, 50, 4, None]]}]}
    assert steps_that_differ(wrong) == (1, ["wrong at 0 s: 5 instead of 4"])


def test_every_policy_is_searched_with_the_same_effort_and_judged_on_other_hours() -> None:
    hours = np.arange(6 * 720) / 720.0
    load = 4.0 + 2.0 * np.sin(hours) + np.random.default_rng(1).normal(0.0, 0.5, hours.size)
    series = LoadSeries(bin_s=5.0, requests=np.full(load.size, 50.0), work_s=np.maximum(load, 0.0) * 5.0)
    world = World(series, 60.0, (((0.0, 7200.0),),), ((7200.0, 21600.0),))
    found = {contender.name: tune(contender, world, runs=2) for contender in CONTENDERS}
    assert len({tuned.runs for tuned in found.values()}) == 1
    figures = world.run(found["predictive"].make).figures(*world.judged_on)
    count, static = best_static(world)
    assert static.within_slo >= 0.999
    assert figures.hours == pytest.approx(4.0)
    assert 0 < figures.replica_hours < 2 * static.replica_hours
    assert count >= 6


def test_who_knows_the_load_ahead_is_ready_for_a_jump_that_no_policy_keeps() -> None:
    load = np.concatenate((np.full(720, 4.0), np.full(720, 8.0)))
    series = LoadSeries(bin_s=5.0, requests=np.full(load.size, 50.0), work_s=load * 5.0)
    hours = ((0.0, 7200.0),)
    world = World(series, 180.0, (hours,), hours, first_replicas=5)
    knows = foreseeing(series, 120.0, ahead_s=190.0)
    late = {
        name: 1.0 - world.run(make).figures(*hours).within_slo
        for name, make in (("knows", knows.variants[0].make(0.9)), ("waits", shifted(PredictiveTuning())))
    }
    assert late["knows"] == 0.0
    assert late["waits"] > 0.01


def test_a_jump_that_nobody_keeps_is_not_paid_for_on_all_other_hours() -> None:
    load = np.maximum(6.0 + np.random.default_rng(1).normal(0.0, 0.3, 3 * 720), 0.0)
    jump = load.copy()
    jump[1500:1530] = 120.0
    whole = ((0.0, 3 * 3600.0),)
    with_jump, without = (
        tune(
            KPA_900,
            keepable(
                World(LoadSeries(bin_s=5.0, requests=10.0 * each, work_s=5.0 * each), 180.0, (whole,), whole)
            ),
            runs=4,
        )
        for each in (jump, load)
    )
    assert with_jump.utilisation > 0.9 * without.utilisation


def test_clients_become_a_deployments_load_with_gaps_filled(tmp_path: Path) -> None:
    """Two clients, one calm, one bursty; the second day is missing from the trace."""
    rows = ["client,t,rate,cv,pattern,p1,p2"]
    for window in range(14 * 144):
        if not 144 <= window < 288:
            rows += [f"0,{window * 600},40,1.0,G,1,1", f"1,{window * 600},2,8.0,G,1,1"]
    quantiles = ["client,t,field,q0,q0.5,q1", "0,0,input_tokens,10,100,1000", "0,0,output_tokens,1,10,100"]
    for name, lines in (("clients", rows), ("length-quantiles", quantiles)):
        with gzip.open(tmp_path / f"tiny-{name}.csv.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
    series = traces.servegen(tmp_path, "tiny", bin_s=60.0, seed=1, replicas=3.0)
    mean_work_s = (55 / 2 + 550 / 2) / 8000 + (5.5 / 2 + 55 / 2) / 2000
    assert series.seconds == 14 * traces.DAY_S
    assert series.requests.mean() / 60.0 == pytest.approx(3.0 / mean_work_s, rel=0.05)
    assert series.work_s.mean() / 60.0 == pytest.approx(3.0, rel=0.05)
    assert series.requests[1440:2880].mean() == pytest.approx(series.requests.mean(), rel=0.1)


def test_single_requests_are_read_from_both_formats(tmp_path: Path) -> None:
    azure, mooncake = tmp_path / "azure.csv", tmp_path / "mooncake.jsonl"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4000,10\n2023-11-16 18:17:06.0319600,4000,10\n"
    )
    mooncake.write_text('{"timestamp": 0, "input_length": 8000, "output_length": 2000, "hash_ids": []}\n')
    assert traces.azure(azure, bin_s=1.0, times=4).requests.tolist() == [4, 0, 4, 0]
    assert traces.mooncake(mooncake, bin_s=1.0).work_s.tolist() == [2.0]
