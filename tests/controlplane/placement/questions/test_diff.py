"""What changes from one plan to another."""

from dataclasses import replace

from hypothesis import given, settings
from msgspec import structs

from controlplane.placement import (
    Demand,
    FailureDomain,
    Latency,
    PlacementPlan,
    PlacementProblem,
    TrafficShare,
    plan_cost,
    plan_diff,
)
from tests.controlplane.placement.plans import allocation, plan_of, planned
from tests.controlplane.placement.random_worlds import planned_problems
from tests.controlplane.placement.worlds import POOLS, cluster, pool, problem, wanted
from tests.support.examples import examples
from workloadplane.protocol.refusal import Refusal

REFUSAL = Refusal(rule="survivability", subject="deployment chat", value="region", remedy="add capacity")


def test_what_starts_stops_and_moves() -> None:
    """By hand: of three in eu one goes to spot in the same cluster, two to us, where a fourth starts."""
    world = problem(wanted(min_replicas=3, max_replicas=9), pools=(*POOLS, pool("eu", procurement="spot")))
    before = plan_of(planned(allocation("p-eu-on_demand", 3)))
    after = plan_of(planned(allocation("p-eu-spot", 1), allocation("p-us-on_demand", 3)))
    diff = plan_diff(world, before, world, after)
    [chat] = diff.deployments
    assert [str(move) for move in chat.moves] == [
        "1 moves from eu/on-demand to eu/spot",
        "2 move from eu/on-demand to us/on-demand",
        "1 starts on us/on-demand",
    ]
    assert (diff.replicas_moved, diff.replicas_started, diff.replicas_stopped) == (3, 1, 0)
    back = plan_diff(world, after, world, before)
    assert (back.replicas_moved, back.replicas_started, back.replicas_stopped) == (3, 0, 1)
    assert chat.cost_before.rent_micro_usd_per_h == 6_000_000
    assert chat.cost_after.rent_micro_usd_per_h == 5_000_000
    assert "rent 6.000 -> 5.000 USD/h" in str(chat)


def test_what_stays_in_its_cluster_is_no_move_from_another() -> None:
    """The one in us goes to spot there; the one in eu stops."""
    world = problem(wanted(max_replicas=9), pools=(*POOLS, pool("us", procurement="spot")))
    before = plan_of(planned(allocation("p-eu-on_demand", 1), allocation("p-us-on_demand", 1)))
    after = plan_of(planned(allocation("p-us-spot", 1)))
    [chat] = plan_diff(world, before, world, after).deployments
    assert [str(move) for move in chat.moves] == [
        "1 moves from us/on-demand to us/spot",
        "1 stops on eu/on-demand",
    ]


def test_equal_plans_have_nothing_to_tell() -> None:
    """Also where a ceiling differs."""
    world = problem(wanted())
    plan = plan_of(planned(allocation("p-us-on_demand", 1)))
    higher = plan_of(planned(allocation("p-us-on_demand", 1, most=4)))
    diff = plan_diff(world, plan, world, higher)
    assert (diff.deployments, diff.unchanged) == ((), 1)
    assert diff.lines() == (
        "in all: 0 replicas move, 0 start, 0 stop; rent 1.000 -> 1.000 USD/h; 0 promises lost, 0 gained;"
        " 1 deployment unchanged",
    )


def test_one_is_told_as_one() -> None:
    """Of what moves, starts and stops."""
    world = problem(wanted())
    here, there = (plan_of(planned(allocation(f"p-{at}-on_demand", 1))) for at in ("us", "eu"))
    more = plan_of(planned(allocation("p-us-on_demand", 2)))
    for before, after, said in (
        (here, there, "1 replica moves, 0 start, 0 stop"),
        (here, more, "0 replicas move, 1 starts, 0 stop"),
        (more, here, "0 replicas move, 0 start, 1 stops"),
    ):
        *_, total = plan_diff(world, before, world, after).lines()
        assert total.startswith(f"in all: {said}; ")
        assert total.endswith("; 0 deployments unchanged")


def test_promises_refusals_and_losses_are_told_the_worst_first() -> None:
    """A lost promise comes before money."""
    world = problem(wanted(survivability="region"), wanted("cheap", min_replicas=3))
    safe = planned(allocation("p-us-on_demand", 1), allocation("p-eu-on_demand", 1))
    alone = planned(allocation("p-us-on_demand", 1), relaxed=(REFUSAL,))
    dear = planned(allocation("p-jp-on_demand", 3, name="cheap"), name="cheap")
    moved = planned(allocation("p-eu-on_demand", 3, name="cheap"), name="cheap")
    diff = plan_diff(world, plan_of(safe, dear), world, plan_of(alone, moved))
    assert [one.deployment for one in diff.deployments] == ["chat", "cheap"]
    assert (diff.promises_lost, diff.promises_gained) == (("chat",), ())
    [chat, _] = diff.deployments
    assert chat.given_up == (REFUSAL,)
    assert "region us" in {str(domain) for domain in chat.survives_no_more}
    assert "its promise is no longer kept; would no longer survive losing" in str(chat)
    back = plan_diff(world, plan_of(alone, moved), world, plan_of(safe, dear))
    assert back.promises_gained == ("chat",)
    assert back.deployments[0].granted == (REFUSAL,) or back.deployments[1].granted == (REFUSAL,)


def test_who_is_refused_gives_no_wish_up_and_who_is_placed_is_granted_none() -> None:
    """In words of their own, before all other news."""
    world, room = problem(wanted(survivability="region"), wanted("cheap")), allocation("p-us-on_demand", 1)
    cheap = planned(allocation("p-eu-on_demand", 1, name="cheap"), name="cheap")
    full = structs.replace(REFUSAL, rule="pool_capacity", value="room for 0 replicas")
    refused = plan_of(planned(refusal=full), cheap)
    relaxed = plan_of(planned(room, relaxed=(REFUSAL,)), cheap)
    [chat] = plan_diff(world, relaxed, world, refused).deployments
    assert (chat.refused, chat.placed, chat.given_up, chat.granted) == (full, False, (), ())
    assert str(chat).startswith("chat: not placed as wanted: pool capacity, room for 0 replicas; 1 stops")
    assert "given up" not in str(chat) and "granted" not in str(chat)
    [chat] = plan_diff(world, refused, world, relaxed).deployments
    assert (chat.refused, chat.placed, chat.given_up, chat.granted) == (None, True, (REFUSAL,), ())
    assert str(chat).startswith("chat: placed as wanted; 1 starts on us/on-demand")
    priced = plan_of(planned(refusal=structs.replace(full, value="room for 1 replica")), cheap)
    assert plan_diff(world, refused, world, priced).deployments == (), "for the same reason"
    [gone] = plan_diff(world, relaxed, problem(wanted("cheap")), plan_of(cheap)).deployments
    assert gone.granted == ()


def test_less_of_a_wish_that_was_given_up_before_is_told() -> None:
    """From zone to none; the other way it is told what is survived now."""
    zones = ("us", "eu")
    world = problem(
        wanted(survivability="region", min_replicas=1),
        clusters=tuple(
            replace(one, failure_domains=(one.failure_domains[0], FailureDomain(kind="region", name="all")))
            for one in (cluster(zone, zone) for zone in zones)
        ),
        pools=POOLS[:2],
    )
    less = structs.replace(REFUSAL, value="survives none instead of region: ...")
    two = plan_of(
        planned(*(allocation(f"p-{zone}-on_demand", 1) for zone in zones), relaxed=(REFUSAL,)),
    )
    one = plan_of(planned(allocation("p-us-on_demand", 1), relaxed=(less,)))
    [chat] = plan_diff(world, two, world, one).deployments
    assert (chat.given_up, chat.granted) == ((less,), ())
    [chat] = plan_diff(world, one, world, two).deployments
    assert (chat.given_up, chat.granted) == ((), ())
    assert "would now survive losing zone us-a" in str(chat)


def test_what_runs_nowhere_survives_nothing() -> None:
    """It is not placed: no loss is told that it would survive now, nor any that it would not once it is placed."""
    world = problem(wanted())
    runs = plan_of(planned(allocation("p-us-on_demand", 1)))
    refused = plan_of(planned(refusal=REFUSAL))
    for before, after in ((runs, refused), (refused, runs)):
        [chat] = plan_diff(world, before, world, after).deployments
        assert (chat.survives_now, chat.survives_no_more) == ((), ())
        assert "survive losing" not in str(chat)


def test_who_serves_instead_of_whom_is_told() -> None:
    """What served and what stood by change places: no replica starts or stops."""
    world = problem(wanted(posture="active_passive", survivability="region", max_replicas=2))

    def served_by(name: str) -> PlacementPlan:
        return plan_of(
            planned(*(allocation(f"p-{at}-on_demand", 1, standby=at != name) for at in ("eu", "us")))
        )

    [chat] = plan_diff(world, served_by("eu"), world, served_by("us")).deployments
    assert (chat.moves, str(chat)) == ((), "chat: served by us instead of eu")


def test_a_cost_alone_is_told() -> None:
    """The same rooms, and the way to them has become longer."""
    asks = Demand(
        deployment_id="d-chat",
        origin_region="eu",
        requests_per_s_p50=1.0,
        requests_per_s_p95=1.0,
        tokens_per_s_p50=0.0,
        tokens_per_s_p95=0.0,
    )
    near, far = (
        problem(
            wanted(),
            demands=(asks,),
            latencies=(Latency(origin_region="eu", target_region="us", rtt_ms=rtt_ms),),
        )
        for rtt_ms in (20.0, 900.0)
    )
    entry = planned(allocation("p-us-on_demand", 1))
    plan = plan_of(replace(entry, traffic=(TrafficShare(origin_region="eu", cluster_id="c-us", share=1.0),)))
    [chat] = plan_diff(near, plan, far, plan).deployments
    assert (chat.moves, str(chat)) == ((), f"chat: {chat.costs_said}")
    assert chat.costs_said.startswith("lateness 0.000 -> ")


def test_deployments_come_and_go() -> None:
    """Each is judged in the problem that knows it."""
    before = problem(wanted("old"))
    after = problem(wanted("new"))
    diff = plan_diff(
        before,
        plan_of(planned(allocation("p-us-on_demand", 1, name="old"), name="old")),
        after,
        plan_of(planned(allocation("p-us-on_demand", 1, name="new"), name="new")),
    )
    assert {str(one).split(";")[0] for one in diff.deployments} == {"old: gone", "new: new"}
    assert plan_diff(before, plan_of(), after, plan_of(), only=()).deployments == ()


def test_a_price_alone_is_told() -> None:
    """The same rooms, in a world where they cost more."""
    world = problem(wanted())
    plan = plan_of(planned(allocation("p-us-on_demand", 1)))
    dearer = replace(
        world,
        pools=tuple(replace(one, instance_micro_usd_per_h=5_000_000) for one in world.pools),
    )
    [chat] = plan_diff(world, plan, dearer, plan).deployments
    assert (chat.moves, str(chat)) == ((), "chat: rent 1.000 -> 5.000 USD/h")


def test_a_place_to_start_in_is_told_as_that() -> None:
    """Who scales to zero has no replicas to move."""
    world = problem(wanted(min_replicas=0))
    before = plan_of(planned(allocation("p-us-on_demand", 0)))
    after = plan_of(planned(allocation("p-eu-on_demand", 0)))
    [chat] = plan_diff(world, before, world, after).deployments
    assert [str(move) for move in chat.moves] == [
        "may start on eu/on-demand",
        "may no longer start on us/on-demand",
    ]


@settings(max_examples=examples(200), deadline=None)
@given(planned_problems())
def test_moves_add_up_and_money_is_the_plans(case: tuple[PlacementProblem, PlacementPlan]) -> None:
    """From nothing to the plan, from the plan to itself, and back."""
    world, plan = case
    rooms = sum(row.room_replicas for entry in plan.deployments for row in entry.allocations)
    empty = plan_of(*(replace(entry, allocations=(), traffic=()) for entry in plan.deployments))
    there = plan_diff(world, empty, world, plan)
    assert (there.replicas_started, there.replicas_moved, there.replicas_stopped) == (rooms, 0, 0)
    assert there.cost_after == plan_cost(world, plan)
    assert plan_diff(world, plan, world, plan).deployments == ()
    assert plan_diff(world, plan, world, empty).replicas_stopped == rooms
