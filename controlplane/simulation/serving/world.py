"""One deployment's world as the modes play it: who asks, what it runs on, what decides, what is asked of it."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from controlplane.placement import Posture
from controlplane.simulation.serving.arrivals import RatePath, overlaid, renewals
from controlplane.simulation.serving.batch import Batch, faster, until
from controlplane.simulation.serving.cold_start import Phase
from controlplane.simulation.serving.geography import Geography, Region
from controlplane.simulation.serving.jobs import Job
from controlplane.simulation.serving.lengths import Lengths
from controlplane.simulation.serving.placement_world import Away, Placement
from controlplane.simulation.serving.pools import Failures, ServingPool
from controlplane.simulation.serving.renting import Renting
from controlplane.simulation.serving.series import FloatArray, LoadSeries
from controlplane.simulation.serving.servegen import clients_of, requests_of
from controlplane.simulation.serving.service import ServiceModel
from controlplane.simulation.serving.spot_trace import SpotTrace, spot_trace_of
from controlplane.simulation.serving.streams import Streams
from controlplane.simulation.serving.trace import Trace
from controlplane.simulation.serving.trace_rows import TraceError
from workloadplane.autoscaling import AutoscalingPolicy

#: No world lasts longer.
DAYS_MAX = 100
S_PER_DAY = 86_400.0
#: The line over time has so many points.
MOMENTS = 720
#: A file's lines, by the name that the world has for it.
OpenLines = Callable[[str], Iterable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Requests along a rate, made from the seed. ``path`` is for a world's end and its streams."""

    path: Callable[[float, Streams], RatePath]
    cv: float
    inputs: Lengths
    outputs: Lengths
    origin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FromTrace:
    """Requests of a file. ``rows_max``: more is an error."""

    file: str
    form: str
    speed: float = 1.0
    deployment: str | None = None
    rows_max: int | None = None
    origin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FromServeGen:
    """Requests of ServeGen's clients, of two tables."""

    clients: str
    lengths: str
    requests_per_s: float | None = None
    origin: str | None = None


#: ``origin``: where its clients are; None: spread over the regions by their shares.
Source = Made | FromTrace | FromServeGen

#: An agent's interval is surveyed in 2 ** 3 steps, so that who waits is heard of at once, up to so many of them: nine
#: hours of intervals of two seconds. Longer worlds in fewer, down to one.
_HALVINGS, _FINE_STEPS_MAX = 3, 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingWorld:
    """``end_s`` None: until the last request of the traces.

    policies:       what may be asked for, by name
    rentings:       how each of them rents
    wait_slo_s:     a request that waits longer for its seat is outside of the SLO
    wait_max_s:     so long a gateway holds a request, and so many of one project (``waiting_max``)
    decide_every_s: an agent's
    jobs:           asynchronous work beside the requests
    mode:           ``request``, ``fluid`` or ``auto`` (by the number of requests)
    geography:      its regions, if it has several or says so
    posture:        ``active_passive``: one of its regions serves, the others stand by
    placement:      what gives its regions their bounds; None: the world itself, once and for all
    plane_lost:     when its control plane is away
    """

    name: str
    seed: int
    end_s: float | None
    sources: tuple[Source, ...]
    service: ServiceModel
    cold_start: tuple[Phase, ...]
    pools: tuple[ServingPool, ...]
    policies: Mapping[str, AutoscalingPolicy]
    rentings: Mapping[str, Renting]
    failures: Failures
    wait_slo_s: float = 5.0
    wait_max_s: float = 180.0
    waiting_max: int = 1_000
    decide_every_s: float = 2.0
    mode: str = "auto"
    jobs: tuple[Job, ...] = ()
    geography: Geography = field(default_factory=Geography)
    posture: Posture = "active_active"
    placement: Placement | None = None
    plane_lost: tuple[Away, ...] = ()

    @property
    def clusters(self) -> tuple[tuple[str, "ServingWorld"], ...]:
        """Its clusters by region, each as a world of its own; without regions it is one itself."""
        regions = self.geography.regions
        return tuple((region.name, self._of(region)) for region in regions) or (("", self),)

    def _of(self, region: Region) -> "ServingWorld":
        return replace(self, pools=region.pools, policies=region.policies, rentings=region.rentings)


@dataclass(slots=True)
class Survey:
    """What arrives in all, seen before anything is played. Arrays by steps of ``step_s``, which divide an interval.

    work_s_by_origin, requests_by_origin: of the clients of each place; empty where there is one
    spot_traces:      of the pools that have one, by file
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    end_s: float = 0.0
    step_s: float = 2.0
    requests_by_step: FloatArray = field(default_factory=lambda: np.zeros(0))
    work_s_by_step: FloatArray = field(default_factory=lambda: np.zeros(0))
    work_s_by_origin: tuple[FloatArray, ...] = ()
    requests_by_origin: tuple[FloatArray, ...] = ()
    notes: tuple[str, ...] = ()
    spot_traces: Mapping[str, SpotTrace] = field(default_factory=dict)

    @property
    def work_s(self) -> float:
        """Replica-seconds of a request in the mean."""
        return float(self.work_s_by_step.sum()) / max(1, self.requests)

    @property
    def series(self) -> LoadSeries:
        """As the fluid mode plays it."""
        return LoadSeries(bin_s=self.step_s, requests=self.requests_by_step, work_s=self.work_s_by_step)

    def demand(self, steps: int, origins: Collection[int] | None = None) -> FloatArray:
        """Replicas that the work keeps busy, on so many parts of the whole time. ``origins``: of these alone."""
        work_s = self.work_s_by_step
        if origins is not None and self.work_s_by_origin:
            work_s = sum((self.work_s_by_origin[each] for each in origins), np.zeros(len(work_s)))
        edges = np.linspace(0, len(work_s), steps + 1)
        done_s = np.concatenate(([0.0], np.cumsum(work_s)))
        return np.diff(np.interp(edges, np.arange(len(done_s)), done_s)) / (self.end_s / steps)


def files_of(world: ServingWorld) -> tuple[str, ...]:
    """The names of all files that it is read from."""
    names: list[str] = []
    for source in world.sources:
        if isinstance(source, FromTrace):
            names.append(source.file)
        elif isinstance(source, FromServeGen):
            names += (source.clients, source.lengths)
    return (*names, *dict.fromkeys(pool.spot_trace for pool in world.pools if pool.spot_trace is not None))


def requests_in(
    world: ServingWorld, open_lines: OpenLines, notes: list[str] | None = None
) -> Iterator[Batch]:
    """All requests of the world in order of time, the same each time. Raises TraceError.

    ``notes`` gets what was mended in traces, once they are read.
    """
    streams = Streams(world.seed)
    end_s = math.inf if world.end_s is None else world.end_s
    sources = [
        _made(source, f"{number}", streams, end_s)
        if isinstance(source, Made)
        else _read(source, streams, end_s, open_lines=open_lines, notes=notes)
        for number, source in enumerate(world.sources)
    ]
    if len(world.geography.origins) > 1:
        sources = [
            _placed(world, source.origin, batches, streams.of(f"origins {number}"))
            for number, (source, batches) in enumerate(zip(world.sources, sources, strict=True))
        ]
    return until(sources[0] if len(sources) == 1 else overlaid(sources), end_s)


def survey(world: ServingWorld, open_lines: OpenLines) -> Iterator[Survey]:
    """Look at all requests; what is seen so far after each batch, the last one whole. Raises TraceError."""
    notes: list[str] = []
    seen = Survey(step_s=world.decide_every_s / 2**_HALVINGS, spot_traces=_spot_traces(world, open_lines))
    requests, work_s = np.zeros(4096), np.zeros(4096)
    origins = len(world.geography.origins)
    by_origin = [(np.zeros(4096), np.zeros(4096)) for _ in range(origins)] if origins > 1 else []
    for batch in requests_in(world, open_lines, notes):
        last_s = float(batch.at_s[-1])
        if last_s > DAYS_MAX * S_PER_DAY:
            raise TraceError(
                f"requests come {last_s / S_PER_DAY:,.0f} days after the first one: give at most {DAYS_MAX} days, "
                "or set hours"
            )
        while last_s / seen.step_s > _FINE_STEPS_MAX and seen.step_s < world.decide_every_s:
            seen.step_s *= 2
            requests, work_s = _coarser(requests), _coarser(work_s)
            by_origin = [(_coarser(each), _coarser(work)) for each, work in by_origin]
        step = (batch.at_s // seen.step_s).astype(np.int64)
        requests, work_s = (_longer(array, int(step[-1]) + 1) for array in (requests, work_s))
        first = int(step[0])
        counts = np.bincount(step - first)
        requests[first : first + len(counts)] += counts
        work_of_each_s = world.service.work_s(batch)
        work_s[first : first + len(counts)] += np.bincount(step - first, weights=work_of_each_s)
        for origin, (each_of, work_of_s) in enumerate(by_origin):
            by_origin[origin] = longer = (_longer(each_of, len(work_s)), _longer(work_of_s, len(work_s)))
            is_there = batch.origin == origin
            for array, weights in zip(longer, (is_there, work_of_each_s * is_there), strict=True):
                array[first : first + len(counts)] += np.bincount(step - first, weights=weights)
        seen.requests += len(batch)
        seen.input_tokens += int(batch.input_tokens.sum())
        seen.output_tokens += int(batch.output_tokens.sum())
        seen.end_s = last_s
        yield seen
    seen.end_s = seen.end_s + world.decide_every_s if world.end_s is None else world.end_s
    steps = math.ceil(seen.end_s / seen.step_s)
    seen.requests_by_step, seen.work_s_by_step = (
        _longer(array, steps)[:steps] for array in (requests, work_s)
    )
    notes += (
        f"spot_trace {name}: it ends after {trace.end_s / 3600:,.1f} h, and its last value stays"
        for name, trace in seen.spot_traces.items()
        if trace.end_s < seen.end_s
    )
    seen.requests_by_origin = tuple(_longer(array, steps)[:steps] for array, _ in by_origin)
    seen.work_s_by_origin = tuple(_longer(array, steps)[:steps] for _, array in by_origin)
    seen.notes = tuple(dict.fromkeys(notes))
    yield seen


def _spot_traces(world: ServingWorld, open_lines: OpenLines) -> dict[str, SpotTrace]:
    files = dict.fromkeys(pool.spot_trace for pool in world.pools if pool.spot_trace is not None)
    return {file: spot_trace_of(open_lines(file), file) for file in files}


def _placed(
    world: ServingWorld, origin: str | None, batches: Iterator[Batch], rng: np.random.Generator
) -> Iterator[Batch]:
    """With where each request's client is."""
    if origin is not None:
        place = world.geography.origins.index(origin)
        for batch in batches:
            yield batch.at(np.full(len(batch), place))
        return
    edges = np.cumsum([region.share for region in world.geography.regions])
    for batch in batches:
        yield batch.at(np.searchsorted(edges, rng.random(len(batch)) * edges[-1], side="right"))


def _made(source: Made, name: str, streams: Streams, end_s: float) -> Iterator[Batch]:
    return renewals(
        source.path(end_s, streams),
        cv=source.cv,
        inputs=source.inputs,
        outputs=source.outputs,
        streams=streams,
        name=name,
    )


def _read(
    source: FromTrace | FromServeGen,
    streams: Streams,
    end_s: float,
    *,
    open_lines: OpenLines,
    notes: list[str] | None,
) -> Iterator[Batch]:
    if isinstance(source, FromServeGen):
        clients = clients_of(open_lines(source.clients), open_lines(source.lengths), end_s=end_s)
        yield from requests_of(clients, streams, requests_per_s=source.requests_per_s)
        return
    trace = Trace(
        open_lines(source.file), form=source.form, deployment=source.deployment, rows_max=source.rows_max
    )
    try:
        yield from faster(trace, source.speed)
    except TraceError as error:  # a world may have several
        raise TraceError(f"{source.file}: {error}") from None
    finally:
        if notes is not None:
            notes += trace.notes


def _coarser(array: FloatArray) -> FloatArray:
    """In steps that are twice as long. Arrays grow to even lengths."""
    return np.asarray(array.reshape(-1, 2).sum(axis=1), dtype=np.float64)


def _longer(array: FloatArray, least: int) -> FloatArray:
    if least <= len(array):
        return array
    return np.concatenate((array, np.zeros(max(least + least % 2, 2 * len(array)) - len(array))))
