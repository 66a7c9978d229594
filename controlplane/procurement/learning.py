"""What recorded launches, lives and losses teach of pools: hazard and obtainability, what was stated being the prior.

All spot capacity of one type in one zone is one failure domain (``group``): what is seen in one pool of it holds for
all. Instances that are lost within ``TOGETHER_S`` of one another are one event; each counts as its share of what was
held.

A plan asks whether a launch at any moment will be had: a share of time, not of tries. Who is refused tries again and
again, and who is served does not, so each launch speaks for the time since the one before it in the domain, for
``LOOK_S`` at most. How often somebody tries makes no difference then: one gap of an hour is one refusal and a half, and
the success that ends it, which came because somebody kept trying, hardly counts.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from controlplane.procurement.blend import TOGETHER_S
from controlplane.procurement.rates import S_PER_H, FadingShare


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningPolicy:
    """How firmly what is stated is believed, and how long what was seen counts. Slower than the blend itself believes:
    plans are made for hours.

    prior_h, prior_launches: a stated hazard counts as so many hours of watching, an obtainability as so many launches,
                             each ``LOOK_S`` or more after the one before
    half_life_h:             after so long evidence counts half
    """

    prior_h: float = 24.0
    prior_launches: float = 10.0
    half_life_h: float = 72.0

    def __post_init__(self) -> None:
        if not (self.prior_h > 0 and self.prior_launches > 0 and self.half_life_h > 0):
            raise ValueError(
                f"prior_h {self.prior_h}, prior_launches {self.prior_launches}, half_life_h {self.half_life_h};"
                " give all of them above 0"
            )


DEFAULT_POLICY = LearningPolicy()

#: What is older counts less than a thousandth.
LOOKED_BACK_S = 30 * 86_400.0
#: A launch speaks for so much time before it and no more: what is further back, nobody has looked at.
LOOK_S = 2 * S_PER_H
#: Launches so near to one another are of one decision: of one look, whose answer is the share that was had.
AT_ONCE_S = 1.0
#: A hazard has moved when it differs by more than this share of the greater one, and by more than so much per hour ...
MOVED_SHARE, MOVED_PER_H = 0.2, 0.002
#: ... and an obtainability when it differs by more than this.
MOVED_OBTAINABILITY = 0.05
#: What placement takes (``controlplane.placement.checks``).
HAZARD_MOST_PER_H, OBTAINABILITY_LEAST = 60.0, 0.001


def spot_group(instance_type: str, *, zones: Iterable[str], cluster: str) -> str:
    """All spot capacity of a type in a zone is one group; where none of ``zones`` is recorded, that of the cluster."""
    return f"{instance_type}@{min(zones, default=cluster)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStated:
    """A pool, its failure domain, and what its owner states."""

    pool_id: str
    group: str
    hazard_per_h: float
    obtainability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSpan:
    """So many instances (parts of one too) were in use in a pool; ``until_s`` None: they still are."""

    pool_id: str
    since_s: float
    until_s: float | None
    instances: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """Instances of a pool that its provider took back; None: all that were held."""

    pool_id: str
    at_s: float
    instances: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """Instances were asked for: had or not."""

    pool_id: str
    at_s: float
    had: bool


@dataclass(frozen=True, slots=True)
class Believed:
    """What plans reckon with of a pool: stated, or learned."""

    hazard_per_h: float
    obtainability: float


@dataclass(frozen=True, slots=True)
class Learned:
    """What is believed of a pool. None: nothing was seen that speaks of it, what is stated holds."""

    hazard_per_h: float | None
    obtainability: float | None

    def beside(self, stated: Believed) -> Believed:
        """With what is stated where nothing was seen."""
        return Believed(
            stated.hazard_per_h if self.hazard_per_h is None else self.hazard_per_h,
            stated.obtainability if self.obtainability is None else self.obtainability,
        )


def learn(
    pools: Sequence[PoolStated],
    *,
    held: Iterable[HeldSpan],
    taken_back: Iterable[TakenBack],
    launched: Iterable[Launched],
    now_s: float,
    policy: LearningPolicy = DEFAULT_POLICY,
) -> Mapping[str, Learned]:
    """Pool id -> what is believed now. What speaks of a pool that is not among ``pools`` is left out."""
    group_of = {pool.pool_id: pool.group for pool in pools}
    spans: dict[str, list[HeldSpan]] = {pool.group: [] for pool in pools}
    losses: dict[str, list[TakenBack]] = {pool.group: [] for pool in pools}
    launches: dict[str, list[Launched]] = {pool.group: [] for pool in pools}
    for span in held:
        if span.pool_id in group_of and span.since_s < now_s:
            spans[group_of[span.pool_id]].append(span)
    for loss in taken_back:
        if loss.pool_id in group_of and loss.at_s <= now_s:
            losses[group_of[loss.pool_id]].append(loss)
    for launch in launched:
        if launch.pool_id in group_of:
            launches[group_of[launch.pool_id]].append(launch)
    seen = {
        group: (_exposure_h(spans[group], now_s, policy), _events(losses[group], spans[group], now_s, policy))
        for group in spans
    }
    return {
        pool.pool_id: Learned(
            hazard_per_h=_hazard_per_h(pool, *seen[pool.group], policy),
            obtainability=_obtainability(pool, launches[pool.group], now_s, policy),
        )
        for pool in pools
    }


def taken_over(found: Learned, *, stated: Believed, believed: Believed) -> Learned | None:
    """What is learned, within what placement takes; None where what is ``believed`` stays, as it has not moved far.

    What is not known any more is as it is stated.
    """
    hazard, obtainability = found.hazard_per_h, found.obtainability
    bounded = Learned(
        hazard_per_h=None if hazard is None else min(HAZARD_MOST_PER_H, hazard),
        obtainability=None if obtainability is None else max(OBTAINABILITY_LEAST, obtainability),
    )
    return bounded if _has_moved(bounded.beside(stated), believed) else None


def _has_moved(now: Believed, was: Believed) -> bool:
    allowed = max(MOVED_PER_H, MOVED_SHARE * max(was.hazard_per_h, now.hazard_per_h))
    if abs(now.hazard_per_h - was.hazard_per_h) > allowed:
        return True
    return abs(now.obtainability - was.obtainability) > MOVED_OBTAINABILITY


def _hazard_per_h(pool: PoolStated, exposure_h: float, events: float, policy: LearningPolicy) -> float | None:
    if not exposure_h:
        return None
    return (pool.hazard_per_h * policy.prior_h + events) / (policy.prior_h + exposure_h)


def _obtainability(
    pool: PoolStated, launches: Sequence[Launched], now_s: float, policy: LearningPolicy
) -> float | None:
    if not launches:
        return None
    share = FadingShare(
        prior=pool.obtainability, prior_trials=policy.prior_launches, half_life_h=policy.half_life_h
    )
    looked_s = float("-inf")
    for at_s, had in _looks(launches):
        weight = min(1.0, (at_s - looked_s) / LOOK_S)
        share = share.seen(now_s=at_s, had=had * weight, asked=weight)
        looked_s = at_s
    return share.share(now_s)


def _looks(launches: Sequence[Launched]) -> Iterator[tuple[float, float]]:
    """When a domain was looked at, in order of time, and the share of what was asked for that was had."""
    together: list[Launched] = []
    for launch in sorted(launches, key=lambda row: row.at_s):
        if together and launch.at_s - together[0].at_s > AT_ONCE_S:
            yield together[0].at_s, _share_had(together)
            together = []
        together.append(launch)
    yield together[0].at_s, _share_had(together)


def _share_had(launches: Sequence[Launched]) -> float:
    return sum(launch.had for launch in launches) / len(launches)


def _exposure_h(spans: Sequence[HeldSpan], now_s: float, policy: LearningPolicy) -> float:
    """Hours in which anything was held in the domain, each as much as it still counts."""
    total, begun_s, ended_s = 0.0, 0.0, float("-inf")
    for since_s, until_s in sorted((span.since_s, _until(span, now_s)) for span in spans):
        if since_s > ended_s:
            total += _fading_h(begun_s, ended_s, now_s, policy)
            begun_s, ended_s = since_s, until_s
        else:
            ended_s = max(ended_s, until_s)
    return total + _fading_h(begun_s, ended_s, now_s, policy)


def _until(span: HeldSpan, now_s: float) -> float:
    return now_s if span.until_s is None else min(span.until_s, now_s)


def _fading_h(since_s: float, until_s: float, now_s: float, policy: LearningPolicy) -> float:
    """The integral of what an hour counts, which halves every ``half_life_h``."""
    if until_s <= since_s:
        return 0.0
    scale_h = policy.half_life_h / math.log(2)
    young = 0.5 ** ((now_s - until_s) / S_PER_H / policy.half_life_h)
    old = 0.5 ** ((now_s - since_s) / S_PER_H / policy.half_life_h)
    return float(scale_h * (young - old))


def _events(
    losses: Sequence[TakenBack], spans: Sequence[HeldSpan], now_s: float, policy: LearningPolicy
) -> float:
    """Losses as shares of what was held at their bunch's begin, each as much as it still counts."""
    total, begun_s, held, left = 0.0, float("-inf"), 0.0, 0.0
    for loss in sorted(losses, key=lambda row: row.at_s):
        if loss.at_s - begun_s > TOGETHER_S:
            begun_s = loss.at_s
            held = left = sum(
                span.instances for span in spans if span.since_s <= begun_s <= _until(span, now_s)
            )
        lost = left if loss.instances is None else min(left, loss.instances)
        if held and lost:
            left -= lost
            total += lost / held * 0.5 ** ((now_s - loss.at_s) / S_PER_H / policy.half_life_h)
    return float(total)


def instances_by_h(held: Iterable[HeldSpan], *, since_s: float, hours: int) -> tuple[float, ...]:
    """How many instances were in use on average in each of so many hours from ``since_s`` on."""
    changes = [0.0] * (hours + 2)
    parts = [0.0] * (hours + 1)
    for span in held:
        begin_h = max(0.0, (span.since_s - since_s) / S_PER_H)
        end_h = (
            float(hours) if span.until_s is None else min(float(hours), (span.until_s - since_s) / S_PER_H)
        )
        if end_h <= begin_h:
            continue
        first, last = int(begin_h), int(end_h)
        if first == last:
            parts[first] += span.instances * (end_h - begin_h)
            continue
        parts[first] += span.instances * (first + 1 - begin_h)
        parts[last] += span.instances * (end_h - last)
        changes[first + 1] += span.instances
        changes[last] -= span.instances
    found, running = [], 0.0
    for hour in range(hours):
        running += changes[hour]
        found.append(max(0.0, running + parts[hour]))
    return tuple(found)
