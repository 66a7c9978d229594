"""A slice of the matrix on three small regions; ``make faults`` is the whole of it."""

import time
from pathlib import Path

import pytest

from tests.faults.matrix.recorder import Allowed, judge_cell, outside_residency
from tests.faults.matrix.small import EU, JP, US, small
from tests.support.gateway import run
from tests.support.waiting import eventually_async


@pytest.mark.slow
def test_a_region_dies_while_two_others_can_not_call_each_other(tmp_path: Path) -> None:
    """Nothing is lost that had not begun, no stream just ends where its gateway lives, nothing leaves the EU."""

    async def scenario() -> None:
        async with small(tmp_path, "--ramp-rung-s", "0.3") as made:
            load = made.load(rest_s=(0.3, 1.5))
            load.start(40)
            await eventually_async(
                lambda: sum(one.is_over for one in load.asked) > 40, what="clients are served"
            )
            began_s = time.monotonic()
            made.places[EU].entry.cut(frozenset({made.places[JP].gateway.process.pid}))
            made.places[JP].entry.cut(frozenset({made.places[EU].gateway.process.pid}))
            made.places[US].kill()
            over = sum(one.is_over for one in load.asked)
            await eventually_async(
                lambda: sum(one.is_over for one in load.asked) > over + 100, what="clients asked on"
            )
            for place in made.places.values():
                place.entry.mend()
            await load.stop()
            assert set((await made.states(EU)).values()) <= {"healthy", "suspect", "ejected", "probation"}

        asked = [one for one in load.asked if one.is_over]
        # At the gateway in Japan nobody else can be asked for what only the EU may serve.
        elsewhere = [one for one in asked if one.attempts[0].door != JP]
        # On a machine that is busy enough the edge takes its first gateway for silent, and ends what is there.
        _, found = judge_cell(elsewhere, Allowed(doors=frozenset({US, EU})), began_s)
        assert found.all() == []
        assert outside_residency(asked, made.clusters_of, inside=EU) == []
        assert sum(one.last.end == "whole" for one in asked) > 0.8 * len(asked)

    run(scenario(), within_s=120)
