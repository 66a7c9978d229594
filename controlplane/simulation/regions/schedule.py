"""What goes wrong and when: drawn from a seed, and asked for by world and checker alike. Times in seconds."""

from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

Kind = Literal["killed", "frozen", "paused", "slow", "cut", "cut_off"]

#: Before it nothing goes wrong: the observers get to know one another.
QUIET_S: Final = 1.5
FAULTS_S: Final = 4.5
PAUSE_S_MAX: Final = 0.5
#: A slow answer, or each answer of a slow region, takes up to so long more.
SLOW_S_MAX: Final = 0.4
SLOW_SHARE: Final = 0.05
_WAY_S: Final = (0.001, 0.06)


@dataclass(frozen=True, slots=True)
class Fault:
    """One, from ``from_s`` until before ``to_s``. ``other``: of a cut, whom nothing of ``region`` reaches."""

    kind: Kind
    region: int
    from_s: float
    to_s: float
    other: int = -1

    def overlaps(self, from_s: float, to_s: float) -> bool:
        return self.from_s < to_s and from_s < self.to_s


@dataclass(frozen=True, slots=True)
class Schedule:
    """A world and its faults.

    skew_s, rate: of each region's clock: what it shows at 0, and how fast it goes
    way_s:        from region to region, one way
    """

    seed: int
    regions: int
    faults: tuple[Fault, ...]
    skew_s: tuple[float, ...]
    rate: tuple[float, ...]
    way_s: tuple[tuple[float, ...], ...]
    _by_kind: dict[str, tuple[Fault, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_kind: dict[str, tuple[Fault, ...]] = {}
        for fault in self.faults:
            by_kind[fault.kind] = (*by_kind.get(fault.kind, ()), fault)
        object.__setattr__(self, "_by_kind", by_kind)

    @property
    def healed_s(self) -> float:
        """From then on nothing is wrong."""
        return max((fault.to_s for fault in self.faults), default=QUIET_S)

    def halted_until_s(self, region: int, at_s: float) -> float:
        """When a frozen or paused region goes on; ``at_s`` itself for one that runs."""
        for kind in ("frozen", "paused"):
            for fault in self._by_kind.get(kind, ()):
                if fault.region == region and fault.from_s <= at_s < fault.to_s:
                    return fault.to_s
        return at_s

    def is_killed(self, region: int, at_s: float) -> bool:
        return self._is("killed", region, at_s)

    def is_slow(self, region: int, at_s: float) -> bool:
        return self._is("slow", region, at_s)

    def is_cut(self, sender: int, receiver: int, at_s: float) -> bool:
        """Whether nothing that the one sends at this time reaches the other."""
        for fault in self._by_kind.get("cut", ()):
            if (fault.region, fault.other) == (sender, receiver) and fault.from_s <= at_s < fault.to_s:
                return True
        return self._is("cut_off", sender, at_s) or self._is("cut_off", receiver, at_s)

    def _is(self, kind: Kind, region: int, at_s: float) -> bool:
        for fault in self._by_kind.get(kind, ()):
            if fault.region == region and fault.from_s <= at_s < fault.to_s:
                return True
        return False


def schedule_of(seed: int) -> Schedule:
    """Two to five regions. A third of all schedules hold only what no healthy region may be ejected for."""
    rng = Random(seed)  # noqa: S311  draws faults, guards nothing
    regions = rng.choice((2, 3, 3, 3, 4, 4, 5))
    is_mild = rng.random() < 1 / 3
    faults: list[Fault] = []
    for _ in range(rng.randint(1, 4)):
        faults += _mild(rng, regions) if is_mild or rng.random() < 0.3 else _grave(rng, regions)
    ways = [[rng.uniform(*_WAY_S) for _ in range(regions)] for _ in range(regions)]
    return Schedule(
        seed=seed,
        regions=regions,
        faults=_apart(faults),
        skew_s=tuple(rng.uniform(-300.0, 300.0) for _ in range(regions)),
        rate=tuple(1.0 + rng.uniform(-0.001, 0.001) for _ in range(regions)),
        way_s=tuple(map(tuple, ways)),
    )


def _mild(rng: Random, regions: int) -> list[Fault]:
    """Pauses as garbage collectors make them, or a slow region."""
    region, from_s = rng.randrange(regions), QUIET_S + rng.uniform(0.0, FAULTS_S / 2)
    if rng.random() < 0.3:
        return [Fault("slow", region, from_s, from_s + rng.uniform(0.5, FAULTS_S / 2))]
    made: list[Fault] = []
    for _ in range(rng.randint(1, 4)):
        to_s = from_s + rng.uniform(0.05, PAUSE_S_MAX)
        made.append(Fault("paused", region, from_s, to_s))
        from_s = to_s + rng.uniform(0.7, 1.5)
    return [fault for fault in made if fault.to_s <= QUIET_S + FAULTS_S]


def _grave(rng: Random, regions: int) -> list[Fault]:
    """A region, or several at once, killed or frozen; a way cut, one way or both; a region cut off."""
    region = rng.randrange(regions)
    from_s = (
        QUIET_S + rng.uniform(0.0, FAULTS_S - 1.0) * rng.random()
    )  # early ones last long enough to be found
    to_s = min(QUIET_S + FAULTS_S, from_s + rng.choice((0.6, 1.2, 2.4, 3.5)))
    drawn = rng.random()
    if drawn < 0.6:
        kind: Kind = "killed" if drawn < 0.3 else "frozen"
        hit = rng.sample(range(regions), rng.choice((1, 1, 1, min(2, regions))))
        return [Fault(kind, one, from_s, to_s) for one in hit]
    if drawn < 0.75:
        return [Fault("cut_off", region, from_s, to_s)]
    other = (region + rng.randrange(1, regions)) % regions
    made = [Fault("cut", region, from_s, to_s, other)]
    return made if drawn < 0.85 else [*made, Fault("cut", other, from_s, to_s, region)]


def _apart(faults: list[Fault]) -> tuple[Fault, ...]:
    """A process is stopped once at a time; pauses that would run into one another would be a longer one."""
    kept: list[Fault] = []
    for fault in sorted(faults, key=lambda fault: (fault.from_s, fault.region)):
        stops = fault.kind in ("killed", "frozen", "paused")
        if not stops or not any(
            one.region == fault.region
            and one.kind in ("killed", "frozen", "paused")
            and one.overlaps(fault.from_s - 0.7, fault.to_s + 0.7)
            for one in kept
        ):
            kept.append(fault)
    return tuple(kept)
