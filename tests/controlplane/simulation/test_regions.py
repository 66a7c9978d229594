"""Random faults among observers on virtual time; and that the checker would see it if they broke their rules.

``python -m tests.faults.regions`` plays many more; ``--replay SEED`` tells what happens in one.
"""

import pytest
from msgspec.structs import replace

from controlplane.simulation.regions import play
from controlplane.simulation.regions.world import POLICY
from workloadplane.health import outlook
from workloadplane.health.outlook import OutlookPolicy
from workloadplane.health.silence import SilencePolicy

SCHEDULES = 2_000
_PARTS = 8


@pytest.mark.parametrize("part", range(_PARTS))
def test_observers_keep_their_rules_whatever_fails(part: int) -> None:
    """2,000 schedules: no lone judge, nobody ejected who was reachable, losses found in time, all healed."""
    wrong = {seed: played.wrong for seed in range(part, SCHEDULES, _PARTS) if (played := play(seed)).wrong}
    assert not wrong, "python -m tests.faults.regions --replay SEED tells what happened"


def test_a_seed_replays() -> None:
    """The same changes at the same moments."""
    assert play(11).changes == play(11).changes
    assert play(11).changes != play(12).changes


def _silence(**changes: float) -> OutlookPolicy:
    return replace(POLICY, watch=replace(POLICY.watch, silence=SilencePolicy(**changes)))


def _found(policy: OutlookPolicy, seeds: int = 40) -> str:
    return " ".join(line for seed in range(seeds) for line in play(seed, policy).wrong)


def test_the_checker_sees_impatience() -> None:
    """Without patience for pauses regions are ejected that were there all the time."""
    impatient = _found(_silence(pause_s=0.0, lost_s_max=0.55, deviation_s_min=0.01))
    assert "could reach all the time" in impatient


def test_the_checker_sees_that_losses_are_found_too_late() -> None:
    """Few schedules freeze a region for long enough while a quorum of the others is at work."""
    assert "has not ejected" in _found(_silence(pause_s=4.0, lost_s_max=9.0), seeds=300)


def test_the_checker_sees_that_trust_never_comes_back() -> None:
    forever = replace(POLICY, ramp=replace(POLICY.ramp, rung_s=60.0))
    assert "never finds" in _found(forever)


def test_the_checker_sees_a_lone_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """An observer that needs nobody else to eject is told of."""
    count = outlook.tally
    monkeypatch.setattr(outlook, "tally", lambda *args: replace(count(*args), needed=1))
    assert "with 1 of 2 observers" in _found(POLICY)
