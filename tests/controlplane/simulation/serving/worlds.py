"""A small world for tests: some minutes of requests on a few replicas."""

from collections.abc import Iterable, Iterator
from typing import Any

from controlplane.simulation.serving.outcome import Outcome
from controlplane.simulation.serving.playing import Play
from controlplane.simulation.serving.world import ServingWorld, Survey, survey
from controlplane.simulation.serving.world_document import world_of

#: Ten minutes, twice the load in the middle; nothing breaks.
DOCUMENT: dict[str, Any] = {
    "name": "small",
    "seed": 5,
    "hours": 1 / 6,
    "arrivals": [
        {
            "kind": "steps",
            "levels": [
                {"at_s": 0, "requests_per_s": 8},
                {"at_s": 200, "requests_per_s": 16},
                {"at_s": 400, "requests_per_s": 8},
            ],
        }
    ],
    "lengths": {"input": {"mean": 500, "cv": 0.5}, "output": {"mean": 100, "cv": 0.5}},
    "service": {"seats": 16, "prefill_base_s": 0.00625, "itl_base_s": 0.04},
    "cold_start": {"engine_start": {"mean_s": 30}},
    "pools": [{"name": "a", "procurement": "on_demand", "replicas": 12, "usd_per_replica_h": 4}],
    "autoscaling": {
        "min_replicas": 2,
        "max_replicas": 12,
        "scale_down_delay_s": 60,
        "target_utilisation": 0.8,
    },
    "gateway": {"hold_requests_max": 100000},
    "failures": {"gpu_failures_per_gpu_h": 0},
}


def no_files(name: str) -> Iterable[str]:
    raise AssertionError(f"{name} is not to be read")


def world(**fields: Any) -> ServingWorld:
    """The small world with other fields."""
    return world_of({**DOCUMENT, **fields})


def seen_of(played: ServingWorld) -> Survey:
    """All that arrives there."""
    *_, seen = survey(played, no_files)
    return seen


def outcomes(played: ServingWorld, *policies: str) -> Iterator[Outcome]:
    """What comes of it with each."""
    seen = seen_of(played)
    for policy in policies:
        yield Play(played, seen, policy, no_files).run()
