"""Placement over virtual time asks at an event what the control plane asks, and adopts what that adopts."""

from dataclasses import replace

from controlplane.placement import Demand
from controlplane.simulation.serving.planning import Now, Planning
from tests.controlplane.placement.rules.test_cost import demand, profile
from tests.controlplane.placement.worlds import POOLS, placed, pool, problem, wanted


def busy(requests_per_s: float) -> tuple[Demand, ...]:
    """Of ``second``, whose replica answers one request a second."""
    return (demand("paris", deployment_id="d-second", requests_per_s_p95=requests_per_s),)


def crowded() -> Planning:
    """In eu there is room for four: ``second`` needs three of them, ``first`` wants two."""
    eu = {"residency": ("eu",), "max_replicas": 4}
    return Planning(
        problem(
            wanted("first", min_replicas=2, **eu),
            wanted("second", priority=9, **eu),
            demands=busy(3.0),
            profiles=(profile(1.0),),
        )
    )


def test_room_that_a_plan_frees_is_for_who_waits_at_the_next_event_whatever_that_is() -> None:
    """No event touches who lacks a replica; another that touches nobody is enough."""
    planning = crowded()
    assert planning.plan.by_deployment["d-first"].refusal or placed(planning.plan, "first") != {
        "p-eu-on_demand": 2
    }
    assert planning.anew(Now(pools=POOLS, demands=busy(1.0))) >= {"d-second"}
    planning.anew(Now(pools=(*POOLS[:2], replace(POOLS[2], capacity_instances=5)), demands=busy(1.0)))
    assert placed(planning.plan, "first") == {"p-eu-on_demand": 2}
    assert not planning.plan.by_deployment["d-first"].refusal


def test_a_plan_that_changes_nothing_is_not_adopted_and_where_nothing_happened_nobody_is_asked() -> None:
    """Who waits in vain is tried again at each event; the plan before stays in force."""
    planning = crowded()
    plan, before = planning.plan, planning.problem
    now = Now(pools=(*POOLS[:2], pool("jp", instance_micro_usd_per_h=4_000_000)), demands=busy(3.0))
    assert planning.anew(now) == frozenset()
    assert (planning.solves, planning.placed_anew) == (2, 1)
    assert planning.plan is plan
    assert planning.problem is before
    assert planning.anew(now) == frozenset()
    assert planning.solves == 2
