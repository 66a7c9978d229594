"""A short run of the chaos test; ``make chaos`` is the long one."""

from pathlib import Path

import pytest

from tests.faults.chaos import chaos
from tests.support.gateway import run


@pytest.mark.slow
def test_nothing_is_lost_while_parts_are_killed(tmp_path: Path) -> None:
    """No request that no gateway took is lost, every stream ends or says why not, and the books agree."""

    async def scenario() -> None:
        # Records are flushed in time wherever the machine gets to it: the long run holds that, alone on it.
        outcome = await chaos(tmp_path / "chaos", lasts_s=15.0, seed=11, unwritten_s_max=0.5)
        assert outcome.wrong == []
        assert set(outcome.kills) == {"replica", "gateway", "agent"}
        assert len(outcome.asked) > 400
        assert sum(one.end == "whole" for one in outcome.asked) > 0.8 * len(outcome.asked)

    run(scenario(), within_s=120)
