"""How many instances more than are needed are worth their price: n + x.

A domain's spot capacity is taken back together, all of it or a part. In the time until that is replaced the service is
short, unless so many more were there. The expected time in which it is short, times what such an hour is worth, stands
against the price of the extra instances; the cheapest sum wins. How many of a domain's instances go at once is not
known: every number from one to all is as likely. Losses of two domains within one replacement are left out.
"""

from collections.abc import Sequence


def cover(
    *,
    domains: Sequence[tuple[int, float]],
    replace_h: float,
    short_usd_per_h: float,
    extra_usd_per_h: float,
    most: int,
) -> int:
    """The number of extra instances, ``most`` at most; the smallest of those that cost least.

    domains:         for each failure domain the instances in it, and the expected losses of one of them, per hour
    replace_h:       from a loss until its replacement serves
    short_usd_per_h: what an hour is worth in which fewer serve than are wanted
    extra_usd_per_h: what an extra instance costs
    """
    best, least = 0, float("inf")
    for extra in range(most + 1):
        lost_per_h = sum(hazard_per_h * _share(count, extra) for count, hazard_per_h in domains)
        cost = extra * extra_usd_per_h + min(1.0, lost_per_h * replace_h) * short_usd_per_h
        if cost < least - 1e-9:
            best, least = extra, cost
    return best


def _share(count: int, extra: int) -> float:
    """How often, for each expected loss of one of ``count`` instances, more than ``extra`` go at once; 1 at most.

    With every number from 1 to ``count`` as likely, (count + 1) / 2 go on average, so that what takes one of them away
    once an hour comes 2 count / (count + 1) times, and of these (count - extra) / count are too many.
    """
    return min(1.0, max(0.0, 2 * (count - extra) / (count + 1)))
