"""Asynchronous work beside the interactive replicas: on spot where it can be, and done by its deadline.

The rule is ``controlplane.procurement.deadline``'s; the world's pools answer it: is spot to be had, was it kept.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from controlplane.procurement.deadline import Looked, Progress, Work, step
from controlplane.simulation.serving.clock import Clock
from controlplane.simulation.serving.outcome import JobOutcome
from controlplane.simulation.serving.pools import S_PER_H, ServingPool
from controlplane.simulation.serving.supply import Holding, Supply, Tally

#: A job is looked at so often.
LOOK_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work of ``replica_hours`` from ``at_s`` on, in equal parts on so many replicas, due ``deadline_s`` later.

    restart_s: what each part loses whenever it moves to another machine
    region:    where it runs; empty: wherever there is something
    """

    name: str
    replica_hours: float
    at_s: float
    deadline_s: float
    restart_s: float
    replicas: int = 1
    region: str = ""

    @property
    def work(self) -> Work:
        """Of one part."""
        return Work(
            work_s=self.replica_hours * S_PER_H / self.replicas,
            deadline_s=self.deadline_s,
            restart_s=self.restart_s,
            look_s=LOOK_S,
        )


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster where jobs may run. ``is_out``: whether it is gone just now."""

    region: str
    supply: Supply
    is_out: Callable[[], bool] = _never


@dataclass(slots=True, eq=False)
class _Part:
    """What one replica does of a job."""

    job: Job
    work: Work
    tally: Tally
    state: Progress = field(default_factory=Progress)
    home: "Site | None" = None
    holding: Holding | None = None
    done_s: float | None = None


class Jobs:
    """All of a world's. Single owner: the mode that plays it, by whose clock it looks."""

    def __init__(self, jobs: Iterable[Job], sites: Iterable[Site], clock: Clock) -> None:
        """Nothing has begun yet."""
        self._clock = clock
        self._rows: list[tuple[Job, Tally, list[_Part]]] = []
        self._by_price = sorted(
            ((site, pool) for site in sites for pool in site.supply.pools),
            key=lambda each: (each[1].usd_per_replica_h, each[0].region, each[1].name),
        )
        for job in jobs:
            tally = Tally()
            parts = [_Part(job, job.work, tally) for _ in range(job.replicas)]
            self._rows.append((job, tally, parts))
            for part in parts:
                clock.put(job.at_s, self, part)

    def happen(self, event: object, now_s: float) -> None:
        """A look at one part."""
        assert isinstance(event, _Part)  # noqa: S101  (nothing else is put)
        part, since_s = event, now_s - event.job.at_s
        if part.home is not None and part.holding is not None:
            self._look_after(part, part.home, part.holding, now_s, since_s)
        held = None if part.holding is None else part.holding.pool.procurement
        spot = self._pools(part.job, "spot")
        is_spot = held == "spot" or any(site.supply.has(pool, now_s) for site, pool in spot)
        part.state, place, _ = step(part.work, part.state, Looked(is_spot), since_s)
        if place != (held or "idle"):
            self._move(part, place, now_s)
        if part.state.done_s >= part.work.work_s:
            part.done_s = now_s
            return
        left_s = part.state.starting_s + part.work.work_s - part.state.done_s
        self._clock.put(now_s + (min(LOOK_S, left_s) if part.holding else LOOK_S), self, part)

    def held(self) -> Counter[tuple[str, str]]:
        """How many places they hold now, by region and pool."""
        parts = (part for _, _, found in self._rows for part in found)
        return Counter(
            (part.home.region, part.holding.pool.name)
            for part in parts
            if part.home is not None and part.holding is not None and part.home.supply.stands(part.holding)
        )

    def outcomes(self, end_s: float) -> list[JobOutcome]:
        """What came of them, once the supply is closed."""
        return [_outcome(job, tally, parts, end_s) for job, tally, parts in self._rows]

    def _look_after(self, part: _Part, home: Site, holding: Holding, now_s: float, since_s: float) -> None:
        """Its machine may be gone: then what was done since the last look is lost, as the rule has it for spot."""
        stands = home.supply.stands(holding)
        if stands and not home.is_out():
            return
        if stands:  # nobody hears of it: what it goes on to do counts for nothing
            home.supply.end(holding, now_s)
        part.home = part.holding = None
        part.state = replace(part.state, place="idle", starting_s=0.0, at_s=since_s)

    def _pools(self, job: Job, kind: str) -> list[tuple[Site, ServingPool]]:
        """Those of one kind that it may ask now, the cheapest first."""
        return [
            (site, pool)
            for site, pool in self._by_price
            if pool.procurement == kind and job.region in ("", site.region) and not site.is_out()
        ]

    def _move(self, part: _Part, place: str, now_s: float) -> None:
        """To another machine, or from one; where none is to be had it waits."""
        if part.home is not None and part.holding is not None:
            part.home.supply.end(part.holding, now_s)
            part.home = part.holding = None
        if place == "idle":
            return
        pools = self._pools(part.job, place)
        asked = next(((site, pool) for site, pool in pools if site.supply.has(pool, now_s)), None)
        if asked is None:
            asked = next(((site, pool) for site, pool in pools if not site.supply.is_full(pool)), None)
        if asked is not None:
            part.home, pool = asked
            part.holding = part.home.supply.take(pool, part.tally, now_s)
        if part.holding is None:
            part.home = None
            part.state = replace(part.state, place="idle", starting_s=0.0)


def _outcome(job: Job, tally: Tally, parts: Sequence[_Part], end_s: float) -> JobOutcome:
    times = [part.done_s for part in parts if part.done_s is not None]
    done_s = max(times) if len(times) == len(parts) else None
    due_s = job.at_s + job.deadline_s
    # At the last look's very moment the sum may differ by what floats do.
    late = done_s > due_s + 1e-6 if done_s is not None else True if end_s >= due_s else None
    return JobOutcome(
        name=job.name,
        done_share=sum(part.state.done_s for part in parts) / sum(part.work.work_s for part in parts),
        done_s=done_s,
        late=late,
        usd=tally.usd,
        spot_hours=tally.rented["spot"].replica_hours,
        on_demand_hours=tally.rented["on_demand"].replica_hours,
        failed_launches=tally.failed_launches,
        lost=sum(each.lost for each in tally.rented.values()),
    )
