"""What is believed of a rate or a share after some watching: a prior, and evidence that fades.

The conjugate pairs: a Gamma prior for the rate of a Poisson process, a Beta prior for the share of a Bernoulli trial.
Evidence halves every ``half_life_h``, so that what is believed goes back to the prior where nothing is seen any more.
"""

from dataclasses import dataclass, replace

S_PER_H = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FadingRate:
    """A rate per hour (Gamma-Poisson): the mean of the posterior.

    prior_per_h:        what is believed before anything was seen ...
    prior_h:            ... as firmly as if it had been watched for so many hours
    half_life_h:        after so long evidence counts half
    events, exposure_h: what was seen in how many hours of watching, as it counts at ``at_s``
    """

    prior_per_h: float
    prior_h: float
    half_life_h: float
    events: float = 0.0
    exposure_h: float = 0.0
    at_s: float = 0.0

    def __post_init__(self) -> None:
        if not (self.prior_per_h >= 0 and self.prior_h > 0 and self.half_life_h > 0):
            raise ValueError(
                f"prior_per_h {self.prior_per_h}, prior_h {self.prior_h}, half_life_h {self.half_life_h};"
                " give a prior of 0 or more, and hours above 0"
            )

    def seen(self, *, now_s: float, events: float = 0.0, exposure_h: float = 0.0) -> "FadingRate":
        """With what was seen by ``now_s``; what is older than the newest evidence counts as if it were as new."""
        kept = _kept(now_s - self.at_s, self.half_life_h)
        return replace(
            self,
            events=self.events * kept + events,
            exposure_h=self.exposure_h * kept + exposure_h,
            at_s=max(now_s, self.at_s),
        )

    def per_h(self, now_s: float) -> float:
        """What is believed at ``now_s``."""
        kept = _kept(now_s - self.at_s, self.half_life_h)
        return (self.prior_per_h * self.prior_h + self.events * kept) / (
            self.prior_h + self.exposure_h * kept
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FadingShare:
    """A share of trials that succeed (Beta-Bernoulli): the mean of the posterior.

    prior, prior_trials: what is believed before anything was seen, as firmly as after so many trials
    had, asked:          of so many trials so many succeeded, as they count at ``at_s``
    """

    prior: float
    prior_trials: float
    half_life_h: float
    had: float = 0.0
    asked: float = 0.0
    at_s: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.prior <= 1 and self.prior_trials > 0 and self.half_life_h > 0):
            raise ValueError(
                f"prior {self.prior}, prior_trials {self.prior_trials}, half_life_h {self.half_life_h};"
                " give a prior from 0 to 1, and the others above 0"
            )

    def seen(self, *, now_s: float, had: float, asked: float) -> "FadingShare":
        """With so many more trials, of which so many succeeded."""
        kept = _kept(now_s - self.at_s, self.half_life_h)
        return replace(
            self, had=self.had * kept + had, asked=self.asked * kept + asked, at_s=max(now_s, self.at_s)
        )

    def share(self, now_s: float) -> float:
        """What is believed at ``now_s``."""
        kept = _kept(now_s - self.at_s, self.half_life_h)
        return (self.prior * self.prior_trials + self.had * kept) / (self.prior_trials + self.asked * kept)


def _kept(age_s: float, half_life_h: float) -> float:
    return 1.0 if age_s <= 0 else float(0.5 ** (age_s / S_PER_H / half_life_h))
