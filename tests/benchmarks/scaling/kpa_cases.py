"""Knative's own cases through our KPA.

A file of cases names its source and its format: for each a configuration, and steps (time, ready replicas, stable and
panic load, the count wanted, and an excess burst capacity that is not implemented here).
"""

from typing import Any

from workloadplane.autoscaling.kpa import KpaPolicy, KpaState, kpa


def steps_that_differ(document: dict[str, Any]) -> tuple[int, list[str]]:
    """How many steps there are, and each whose count is another one."""
    defaults, differing, steps = document["defaults"], [], 0
    for case in document["cases"]:
        settings = {**defaults, **case["cfg"]}
        policy = KpaPolicy(
            target=settings["target"],
            panic_threshold=settings.get("panic", settings["panic_threshold"]),
            scale_up_rate=settings["up"],
            scale_down_rate=settings["down"],
            stable_window_s=settings["stable_window_s"],
            delay_s=settings.get("delay", 0.0),
            activation=settings.get("act", 1),
        )
        state = KpaState(panic_since=settings.get("panic_since"), panic_peak=settings.get("mpp", 0))
        reachable = settings.get("reach", settings["reachable"])
        for now, ready, stable, panic, wanted, _ in case["steps"]:
            count, state = kpa(
                stable=stable,
                panic=panic,
                ready=ready,
                state=state,
                policy=policy,
                now=now,
                reachable=reachable,
            )
            steps += 1
            if count != wanted:
                differing.append(f"{case['name']} at {now} s: {count} instead of {wanted}")
    return steps, differing
