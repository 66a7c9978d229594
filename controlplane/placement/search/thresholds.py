"""What replicas must add up to, in small whole numbers.

A deployment needs Σ share × replicas >= 1 and Σ count × replicas >= 1 of whatever is left after a loss. Hence, for any
a, b >= 0, Σ (a × share + b × count) × replicas >= a + b, and rounded up pool by pool (as Chvátal and Gomory cut)

    Σ ceil(factor × replicas) >= quota,  factor = a × share + b × count,  quota = ceil(a + b)

which every lawful plan keeps. With well chosen a and b nearly no other plan does, and the quota is small enough for
tables.
"""

from dataclasses import dataclass

import numpy as np

from controlplane.placement.search.offers import Floats

#: Factors are taken this much smaller and quotas larger than they are, so that rounding errors exclude nothing.
_ROUNDING = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class Threshold:
    """``factor`` of a replica on each pool, and the ``quota`` that the rounded-up parts must add up to.

    ``error``: about what part of a plan the rounding may leave out, on pools that are worth using.
    """

    factor: Floats
    quota: int
    error: float


def replicas_for(factor: Floats, weight: int) -> Floats:
    """The fewest replicas that weigh so much; infinite where no number does."""
    some = factor > 1e-9
    return np.where(some, np.floor((weight - 1) / np.where(some, factor, 1.0) + _ROUNDING) + 1, np.inf)


def threshold(share: Floats, count: Floats, price: Floats, *, most: int) -> Threshold:
    """The best whole numbers with a quota of at most ``most``, where ``price`` says which pools matter.

    share: part of the whole demand that a replica counts for; count: part of the replicas needed; both by pool.
    """
    share, count = np.minimum(share, 1.0), np.minimum(count, 1.0)
    lacking = np.minimum(share, count)
    needed = np.ceil(1.0 / np.maximum(lacking, 1e-4) - 1e-9)
    spent = needed * np.maximum(price, 1e-9)
    relevance = np.exp(-2.0 * np.minimum(spent / spent.min() - 1.0, 20.0))
    chosen = _kinds(share, count, relevance)
    pairs = _factors(share[chosen], count[chosen], most)
    quotas = np.ceil(pairs.sum(axis=1) - _ROUNDING)
    factors = pairs[:, :1] * share[chosen] + pairs[:, 1:] * count[chosen]
    with np.errstate(divide="ignore", invalid="ignore"):
        enough = np.where(factors > 1e-9, np.floor((quotas[:, None] - 1) / factors + _ROUNDING) + 1, np.inf)
    missing = np.maximum(needed[chosen] - enough, 0.0) / needed[chosen] * relevance[chosen]
    errors = missing.max(axis=1) + _mixed_errors(
        share[chosen], count[chosen], relevance[chosen], factors, quotas
    )
    best = int(np.argmin(errors + quotas * 3e-4))
    a, b = pairs[best]
    return Threshold(a * share + b * count, int(quotas[best]), float(errors[best]))


def _kinds(share: Floats, count: Floats, relevance: Floats) -> list[int]:
    """The most relevant pool of each kind, the most relevant kinds first."""
    found: dict[tuple[float, float], int] = {}
    for number in np.argsort(-relevance, kind="stable"):
        found.setdefault((round(float(share[number]), 3), round(float(count[number]), 3)), int(number))
    return list(found.values())[:6]


def _factors(share: Floats, count: Floats, most: int) -> Floats:
    """Pairs (a, b): just above whole numbers, where nothing is lost on one pool alone, and where factors are whole."""
    found = []
    both = bool(np.any(count < share - 1e-9))
    for own, values in ((0, share), (1, count)):
        if own == 1 and not both:
            continue
        steps = [np.arange(1, most) + 1e-5]
        steps.extend(np.arange(1, most + 1) / value for value in values[:3] if value > 1e-4)
        line = np.unique(np.round(np.concatenate(steps), 9))
        line = line[line <= most]
        pairs = np.zeros((len(line), 2))
        pairs[:, own] = line
        found.append(pairs)
        if both and np.any(share < count - 1e-9):
            for part in (0.3, 1.0):
                mixed = pairs.copy()
                mixed[:, 1 - own] = part * mixed[:, own]
                found.append(mixed[mixed.sum(axis=1) <= most])
    return np.concatenate(found)


_A, _B = (grid.ravel() for grid in np.meshgrid(np.arange(1, 8), np.arange(1, 8)))


def _mixed_errors(share: Floats, count: Floats, relevance: Floats, factors: Floats, quotas: Floats) -> Floats:
    """Of the lawless mixtures of two pools' replicas, how many pass, by the relevance of both."""
    wrong = np.zeros(len(quotas))
    for one in range(min(4, len(share))):
        for other in range(one, min(4, len(share))):
            weight = relevance[one] * relevance[other]
            lawful = (_A * share[one] + _B * share[other] >= 1 - 1e-9) & (
                _A * count[one] + _B * count[other] >= 1 - 1e-9
            )
            a, b = _A[~lawful], _B[~lawful]
            if not len(a) or weight < 0.01:
                continue
            passing = (
                np.ceil(factors[:, one, None] * a - _ROUNDING)
                + np.ceil(factors[:, other, None] * b - _ROUNDING)
                >= quotas[:, None]
            )
            wrong += passing.mean(axis=1) * weight
    return 0.1 * wrong
