"""What a plan changes, and whether it fits: no database, any world."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.placement import DeploymentPlan, Occupancy, PlacementProblem, solve
from controlplane.placement.rules.changes import EntryChange, entry_change, that_fit
from tests.controlplane.placement.worlds import adopted, problem, problems, wanted
from tests.support.examples import examples


@st.composite
def moving_worlds(draw: st.DrawFn) -> PlacementProblem:
    """A world after a plan, some of whose assignments are on their way out, with other wishes than before."""
    world = draw(problems())
    later = adopted(world, solve(world))
    staying, outgoing = [], []
    for row in later.current:
        if draw(st.booleans()):
            staying.append(row)
        elif row.min_replicas:
            outgoing.append(
                Occupancy(
                    deployment_id=row.deployment_id,
                    pool_id=row.pool_id,
                    gpus_per_replica=row.gpus_per_replica,
                    replicas=row.min_replicas,
                )
            )
    deployments = tuple(
        replace(d, residency=draw(st.sampled_from((d.residency, ("eu",), ("us",)))))
        for d in later.deployments
    )
    return replace(later, current=tuple(staying), occupancies=tuple(outgoing), deployments=deployments)


def entry_change_of(world: PlacementProblem, entry: DeploymentPlan) -> EntryChange:
    """Where everybody was told what the problem says."""
    told = {(row.revision_id, row.pool_id) for row in world.current if row.standby}
    return entry_change(world, entry, standing_by=told)


@settings(max_examples=examples(300), deadline=None)
@given(moving_worlds())
def test_a_plan_that_nothing_overtook_fits_whole(world: PlacementProblem) -> None:
    """Solver and adoption count alike, so that no plan is solved again and again in vain."""
    plan = solve(world)
    changes = [entry_change_of(world, entry) for entry in plan.deployments]
    ids = {change.entry.deployment_id for change in changes}
    assert that_fit(world, changes, ids) == ids


def test_a_change_names_what_is_added_rebounded_and_dropped() -> None:
    """Nothing changes where the plan says what is in force."""
    world = problem(wanted(min_replicas=5, max_replicas=5))
    standing = adopted(world, solve(world))
    same = entry_change_of(standing, solve(standing).deployments[0])
    assert not same.changes_assignments
    raised = replace(standing, deployments=(wanted(min_replicas=5, max_replicas=6, residency=("eu", "jp")),))
    change = entry_change_of(raised, solve(raised).deployments[0])
    assert [row.pool_id for row in change.added] == ["p-jp-on_demand"]
    assert [row.pool_id for row in change.rebounded] == ["p-eu-on_demand"]
    assert [row.pool_id for row in change.dropped] == ["p-us-on_demand"]
