"""How load is attributed and a count is dealt out to pools."""

from tests.workloadplane.agent.conftest import DEPLOYMENT, REVISION, assignment
from workloadplane.agent.gateways import RevisionLoad
from workloadplane.agent.scaling import Scaling
from workloadplane.protocol.desired import DesiredAssignment, PoolBound


def pool(name: str, procurement: str) -> PoolBound:
    return PoolBound(
        pool_id=name,
        name=name,
        procurement=procurement,
        instance_type="h100.1",
        gpus_per_instance=1,
        capacity_gpus=8,
    )


POOLS = (pool("spot", "spot"), pool("reserved", "reserved"))


def wanted(assignments: list[DesiredAssignment], loads: dict[tuple[str, str], int]) -> dict[str, int]:
    """What is wanted after a while of steady load (requests in flight by deployment and revision)."""
    scaling = Scaling()
    seen = {key: RevisionLoad(in_flight=count, waiting=0) for key, count in loads.items()}
    counts: dict[str, int] = {}
    for now in range(0, 40, 2):
        scaling.observe(assignments, seen, now=float(now))
        counts = scaling.wanted(assignments, POOLS, alive={}, ready=counts, now=float(now))
    return counts


def test_a_revision_on_two_pools_is_scaled_once_and_fills_the_paid_one_first() -> None:
    """The sum follows the load; the reserved pool gets it before the spot pool."""
    both = [
        assignment("a", pool_id="spot", min_replicas=1, max_replicas=4),
        assignment("b", pool_id="reserved", min_replicas=1, max_replicas=4),
    ]
    assert wanted(both, {(DEPLOYMENT, REVISION): 10}) == {"a": 1, "b": 4}
    assert wanted(both, {(DEPLOYMENT, REVISION): 14}) == {"a": 3, "b": 4}
    assert wanted(both, {}) == {"a": 1, "b": 1}


def test_a_new_revision_is_made_big_enough_for_what_the_old_one_carries() -> None:
    """Load on an ended revision counts for its successor, another deployment's does not."""
    old = assignment("old", draining=True)
    new = assignment("new", revision_id="revision-2", revision=2, pool_id="reserved", max_replicas=8)
    loads = {(DEPLOYMENT, REVISION): 9, ("other", "revision-9"): 100}
    assert wanted([old, new], loads) == {"new": 5}


def test_two_live_revisions_scale_by_their_own_load() -> None:
    """A canary does not grow with the load of its elder."""
    elder = assignment("elder", pool_id="reserved", max_replicas=8)
    canary = assignment("canary", revision_id="revision-2", revision=2, pool_id="reserved", max_replicas=8)
    loads = {(DEPLOYMENT, REVISION): 12, (DEPLOYMENT, "revision-2"): 1}
    assert wanted([elder, canary], loads) == {"elder": 6, "canary": 1}
