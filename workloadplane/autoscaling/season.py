"""The day's course: how the load changes with the time of day, believed only once that has lowered the error for days.

The clock's zero is of no matter: a day is 86,400 s of it.
"""

import math

from msgspec import Struct
from msgspec.structs import replace

DAY_S = 86_400.0
SLOTS = 96
SLOT_S = DAY_S / SLOTS
#: The profile is used once it has been better by a tenth for so many days on end.
TRUST_AFTER_DAYS = 2.0


class Season(Struct, frozen=True, kw_only=True):
    """Mean load of each quarter of an hour of the day, and the back-test of using it.

    profile:        one value for each slot; None where no day has passed yet
    slot:           the slot being filled (counted from the clock's zero), with its sum and count
    plain_error, seasonal_error: mean absolute errors, one slot ahead, without the profile and with it
    better_days:    for how many days on end the profile has been better
    """

    profile: tuple[float | None, ...] = (None,) * SLOTS
    slot: int | None = None
    total: float = 0.0
    count: int = 0
    was: float | None = None
    plain_error: float = 0.0
    seasonal_error: float = 0.0
    better_days: float = 0.0

    @property
    def trusted(self) -> bool:
        """Whether the forecast uses it."""
        return self.better_days >= TRUST_AFTER_DAYS and None not in self.profile

    def change(self, now: float, horizon_s: float) -> float:
        """How much the profile rises between ``now`` and ``horizon_s`` later."""
        return self._at(now + horizon_s) - self._at(now)

    def _at(self, at: float) -> float:
        place = at / SLOT_S - 0.5
        left = math.floor(place)
        before = self.profile[left % SLOTS] or 0.0
        after = self.profile[(left + 1) % SLOTS] or 0.0
        return before + (place - left) * (after - before)


def season_observed(season: Season, load: float, *, now: float) -> Season:
    """The season after ``load``; work is done only when a quarter of an hour is full."""
    slot = math.floor(now / SLOT_S)
    if season.slot is None:
        return replace(season, slot=slot, total=load, count=1)
    if slot == season.slot:
        return Season(
            profile=season.profile,
            slot=slot,
            total=season.total + load,
            count=season.count + 1,
            was=season.was,
            plain_error=season.plain_error,
            seasonal_error=season.seasonal_error,
            better_days=season.better_days,
        )
    return _filled(season, season.slot, slot, load)


def _filled(season: Season, full: int, slot: int, load: float) -> Season:
    """The season once the slot ``full`` is over and ``load`` is the first of ``slot``."""
    mean = season.total / season.count
    place = full % SLOTS
    known, before = season.profile[place], season.profile[place - 1]
    plain_error, seasonal_error, better_days = season.plain_error, season.seasonal_error, season.better_days
    if season.was is not None and known is not None and before is not None:
        plain_error += 0.02 * (abs(mean - season.was) - plain_error)
        seasonal_error += 0.02 * (abs(mean - season.was - (known - before)) - seasonal_error)
        better = seasonal_error < 0.9 * plain_error
        better_days = min(better_days + SLOT_S / DAY_S, 30.0) if better else 0.0
    profile = list(season.profile)
    profile[place] = mean if known is None else known + 0.3 * (mean - known)
    return Season(
        profile=tuple(profile),
        slot=slot,
        total=load,
        count=1,
        was=mean if slot == full + 1 else None,
        plain_error=plain_error,
        seasonal_error=seasonal_error,
        better_days=better_days,
    )
