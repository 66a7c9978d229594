"""A region is frozen, returns and is killed; ``python -m tests.faults.lost_region`` measures it more often."""

from pathlib import Path

import pytest

from tests.faults.lost_region import lose
from tests.support.gateway import run

#: From the loss on: no request that began later than this has failed.
KILLED_S, FROZEN_S = 2.0, 3.0


@pytest.mark.slow
def test_a_region_is_frozen_returns_and_is_killed(tmp_path: Path) -> None:
    """Nobody sees an error who asks another region or asks once more; at the edge the last failure is in time."""

    async def scenario() -> None:
        seen = await lose(tmp_path)
        assert seen.failed == (0, 0, 0), seen
        late_s = 2 * seen.lag_s  # a machine that is late itself
        assert seen.frozen_s <= FROZEN_S + late_s, seen
        assert seen.killed_s <= KILLED_S + late_s, seen
        assert seen.worst_s <= FROZEN_S + 1.0 + late_s, "what had begun there goes on elsewhere"
        assert seen.evidence.startswith("lost to 2 of 2 observers")
        assert seen.rungs[-4:] == (0, 1, 2, 3)
        assert 'region_state{cluster_id="c-us",region="us-east",state="ejected"} 1.0' in seen.metrics
        assert 'retries_total{cause="stuck"' in seen.metrics

    run(scenario(), within_s=120)
