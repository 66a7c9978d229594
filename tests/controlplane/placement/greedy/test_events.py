"""What an event touches, and that nothing else moves when it is answered."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.placement import PlacementProblem, resolve, solve, to_place_anew
from controlplane.placement.greedy.events import touched_by
from tests.controlplane.placement.random_worlds import whole_problems
from tests.controlplane.placement.rules.test_cost import demand, profile
from tests.controlplane.placement.test_judged import check
from tests.controlplane.placement.worlds import POOLS, adopted, placed, pool, problem, wanted
from tests.support.examples import examples


def standing() -> PlacementProblem:
    """``first`` runs in us, ``second`` in jp, and both are in force."""
    world = problem(
        wanted("first"),
        wanted("second", residency=("jp",)),
        demands=(demand("paris", deployment_id="d-first"),),
        profiles=(profile(1.0),),
    )
    return adopted(world, solve(world))


def with_pool(world: PlacementProblem, pool_id: str, **fields: Any) -> PlacementProblem:
    pools = tuple(replace(one, **fields) if one.pool_id == pool_id else one for one in world.pools)
    return replace(world, pools=pools)


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        (lambda world: world, set()),
        (lambda world: with_pool(world, "p-us-on_demand", capacity_instances=2), set()),
        (lambda world: with_pool(world, "p-us-on_demand", capacity_instances=0), {"d-first"}),
        (lambda world: with_pool(world, "p-us-on_demand", instance_micro_usd_per_h=1_100_000), {"d-first"}),
        (lambda world: with_pool(world, "p-us-on_demand", closed="not schedulable"), {"d-first"}),
        (lambda world: with_pool(world, "p-jp-on_demand", capacity_instances=0), {"d-second"}),
        (lambda world: with_pool(world, "p-eu-on_demand", capacity_instances=9), set()),
        (lambda world: with_pool(world, "p-us-on_demand", capacity_instances=9), set()),
        (lambda world: with_pool(world, "p-eu-on_demand", instance_micro_usd_per_h=500_000), {"d-first"}),
        (lambda world: with_pool(world, "p-eu-on_demand", instance_micro_usd_per_h=990_000), set()),
        (
            lambda world: replace(
                world, demands=(demand("paris", deployment_id="d-first", requests_per_s_p95=2.3),)
            ),
            set(),
        ),
        (
            lambda world: replace(
                world, demands=(demand("paris", deployment_id="d-first", requests_per_s_p95=2.5),)
            ),
            {"d-first"},
        ),
        (
            lambda world: replace(world, demands=(demand("rome", deployment_id="d-first"),)),
            {"d-first"},
        ),
        (lambda world: replace(world, deployments=(*world.deployments, wanted("third"))), {"d-third"}),
        (lambda world: replace(world, profiles=(profile(1.5),)), {"d-first", "d-second"}),
    ],
)
def test_an_event_touches_those_whom_it_concerns(
    change: Callable[[PlacementProblem], PlacementProblem], touched: set[str]
) -> None:
    """Who runs there, who would gain there, who changed; nobody else."""
    before = standing()
    assert touched_by(before, change(before)) == touched


def test_room_that_comes_free_touches_who_waits_for_it() -> None:
    """Somebody lacks a replica in eu; a larger pool there is for him."""
    world = problem(wanted("first", min_replicas=5, max_replicas=5, residency=("eu",)), wanted("second"))
    before = adopted(world, solve(world))
    assert touched_by(before, with_pool(before, "p-eu-on_demand", capacity_instances=5)) == {"d-first"}
    assert touched_by(before, with_pool(before, "p-jp-on_demand", capacity_instances=5)) == frozenset()


def test_who_lacks_a_wish_is_placed_anew_at_every_event() -> None:
    """Whatever it touches: the plan in force may have freed the room that they wait for. Not who is gone."""
    world = problem(wanted("first", min_replicas=5, max_replicas=5, residency=("eu",)), wanted("second"))
    plan = solve(world)
    before = adopted(world, plan)
    elsewhere = with_pool(before, "p-jp-on_demand", capacity_instances=5)
    assert to_place_anew(plan, before, elsewhere) == {"d-first"}
    assert to_place_anew(plan, before, with_pool(before, "p-us-on_demand", closed="lost")) == {
        "d-first",
        "d-second",
    }
    assert to_place_anew(plan, before, replace(elsewhere, deployments=(wanted("second"),))) == frozenset()


def test_a_lost_pool_moves_who_was_there_and_nobody_else() -> None:
    """The entry of the other is the very same, and who must move is found out though nobody named him."""
    world = standing()
    plan = solve(world)
    after = with_pool(world, "p-us-on_demand", capacity_instances=0)
    again = resolve(after, plan, touched=())
    assert {row.pool_id for row in again.by_deployment["d-first"].allocations} == {"p-eu-on_demand"}
    assert again.by_deployment["d-second"] == plan.by_deployment["d-second"]


def test_scarcity_keeps_the_dear_room_for_those_who_need_it() -> None:
    """A newcomer would take the last cheap GPU; its worth to others sends it to the next."""
    world = problem(wanted("first"))
    plan = replace(solve(world), gpu_micro_usd_per_h_by_pool={"p-us-on_demand": 1_500_000})
    joined = replace(adopted(world, plan), deployments=(wanted("first"), wanted("second")))
    assert placed(resolve(joined, plan, {"d-second"}), "second") == {"p-eu-on_demand": 1}
    assert placed(resolve(joined, solve(world), {"d-second"}), "second") == {"p-us-on_demand": 1}


def test_what_is_touched_moves_for_money_only_where_that_pays_for_the_move() -> None:
    """A GPU at half the price is worth a cold cache; one that is a hundredth cheaper is not."""
    world = problem(wanted(), pools=(POOLS[0],))
    plan = solve(world)
    for price, place in ((1_000_000, "p-us-on_demand"), (1_980_000, "p-eu-on_demand")):
        pools = (POOLS[0], pool("us", instance_micro_usd_per_h=price))
        after = replace(adopted(world, plan), pools=pools)
        assert placed(resolve(after, plan, {"d-chat"})) == {place: 1}


@settings(max_examples=examples(200), deadline=None)
@given(whole_problems(), st.data())
def test_answers_to_events_break_no_rule(world: PlacementProblem, data: st.DataObject) -> None:
    """Pools that shrink or cost more and deployments that change: touched ones are placed lawfully, the others stay.

    What was remembered of the world before says nothing else than what is found out anew.
    """
    plan = solve(world)
    before = adopted(world, plan)
    resolve(before, plan, before.deployment_by_id.keys())  # now there is something to remember of everybody
    factor = data.draw(st.sampled_from((1.0, 3.0)))
    after = replace(
        before,
        demands=tuple(
            replace(
                one,
                requests_per_s_p50=one.requests_per_s_p50 * factor,
                requests_per_s_p95=one.requests_per_s_p95 * factor,
            )
            for one in before.demands
        ),
        pools=tuple(
            replace(
                one,
                capacity_instances=data.draw(st.sampled_from((one.capacity_instances, 0))),
                instance_micro_usd_per_h=data.draw(
                    st.sampled_from((one.instance_micro_usd_per_h, 3_000_000))
                ),
                obtainability=data.draw(st.sampled_from((one.obtainability, 0.5))),
            )
            for one in before.pools
        ),
        deployments=tuple(
            replace(
                one,
                max_replicas=one.max_replicas + data.draw(st.sampled_from((0, 0, 1))),
                residency=data.draw(st.sampled_from((one.residency, one.residency, (), ("eu",)))),
                gpus_per_replica=data.draw(st.sampled_from((one.gpus_per_replica, one.gpus_per_replica, 2))),
            )
            for one in before.deployments
        ),
    )
    touched = touched_by(before, after)
    again = resolve(after, plan, touched)
    check(after, again)
    assert again == resolve(replace(after), replace(plan), touched)
    assert touched == touched_by(replace(before), replace(after))
    assert [entry.deployment_id for entry in again.deployments] == list(after.deployment_by_id)
    assert touched_by(after, after) == frozenset()
