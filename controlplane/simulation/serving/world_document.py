"""A world as a document (YAML or JSON, read already): what each field says, and what is wrong with it."""

from collections.abc import Callable, Mapping
from typing import Any

from controlplane.simulation.serving import arrivals
from controlplane.simulation.serving.cold_start import PHASES, Phase
from controlplane.simulation.serving.fields import Fields, WorldError
from controlplane.simulation.serving.geography_document import geography_of
from controlplane.simulation.serving.jobs_document import jobs_of
from controlplane.simulation.serving.lengths import Lognormal
from controlplane.simulation.serving.placement_document import away_of, placement_of, posture_of
from controlplane.simulation.serving.policies_document import Scaling
from controlplane.simulation.serving.pools import Failures
from controlplane.simulation.serving.renting_document import pools_of
from controlplane.simulation.serving.service import ServiceModel, fitted
from controlplane.simulation.serving.world import (
    DAYS_MAX,
    FromServeGen,
    FromTrace,
    Made,
    ServingWorld,
    Source,
)

#: An agent's: its deployment's goals are for the 95th percentile.
ATTAINMENT = 0.95
_RATE_MAX = 1e6
#: What a trace alone is played with. Times of a replica are those of Llama 2 70B on eight H100, fitted to the table
#: that was measured for Splitwise (Patel et al., ISCA 2024); cold starts and prices are round numbers of our own.
USUAL: Mapping[str, Any] = {
    "name": "trace",
    "service": {
        "seats": 64,
        "prefill_base_s": 0.002,
        "prefill_s_per_token": 0.0001,
        "itl_base_s": 0.03,
        "itl_s_per_request": 0.0003,
    },
    "cold_start": {
        "gpu_procurement": {"mean_s": 60, "cv": 0.5},
        "weight_load": {"mean_s": 80, "cv": 0.2},
        "engine_start": {"mean_s": 40, "cv": 0.2},
    },
    "pools": [{"name": "on-demand", "procurement": "on_demand", "replicas": 200, "usd_per_replica_h": 20.0}],
    "autoscaling": {"min_replicas": 1, "max_replicas": 200},
}
_Path = Callable[[Fields], Callable[[float, Any], arrivals.RatePath]]


def world_of(document: Any, *, trace: str | None = None, rows_max: int | None = None) -> ServingWorld:
    """The world. ``trace``: a file whose requests take the place of the document's. Raises WorldError."""
    fields = Fields(document, "")
    end_s = fields.number("hours", most=24.0 * DAYS_MAX, above=True) * 3600.0 if "hours" in fields else None
    sources = _sources(fields, end_s, rows_max) if trace is None else (from_trace(trace, rows_max=rows_max),)
    if trace is not None:
        fields.drop("arrivals", "lengths")
    service = _service(fields.child("service"))
    failures, slo = fields.child("failures", needed=False), fields.child("slo", needed=False)
    gateway = fields.child("gateway", needed=False)
    attainment = slo.number("attainment", ATTAINMENT, least=0.5, most=0.9999)
    shared = fields.part("autoscaling", "policies", "procurement")
    scaling = Scaling(shared, seats=service.seats, attainment=attainment)
    geography = geography_of(fields, failures, scaling, [source.origin for source in sources])
    pools = tuple(pool for region in geography.regions for pool in region.pools) or pools_of(fields)
    first = geography.regions[0] if geography.regions else None
    policies, rentings = (first.policies, first.rentings) if first is not None else scaling.of(pools)
    cold_start = _cold_start(fields.child("cold_start"))
    posture = posture_of(fields, geography.regions)
    plane_lost = away_of(failures, is_needed="placement" in fields or posture == "active_passive")
    broken = _failures(failures)
    world = ServingWorld(
        name=fields.text("name"),
        seed=fields.whole("seed", 1, most=2**31),
        end_s=end_s,
        sources=sources,
        service=service,
        cold_start=cold_start,
        pools=pools,
        policies=policies,
        rentings=rentings,
        failures=broken,
        wait_slo_s=slo.number("wait_s", 5.0, most=3600.0),
        wait_max_s=gateway.number("hold_timeout_s", 180.0, most=86_400.0),
        waiting_max=gateway.whole("hold_requests_max", 1_000, least=1, most=100_000_000),
        decide_every_s=fields.number("decide_every_s", 2.0, least=0.1, most=600.0),
        mode=fields.choice("mode", ("auto", "request", "fluid"), "auto"),
        jobs=jobs_of(
            fields,
            geography.regions,
            end_s=end_s,
            restart_s=sum(phase.mean_s for phase in cold_start),
        ),
        geography=geography,
        placement=placement_of(
            fields, geography.regions, geography.origins, gpus_per_replica=broken.gpus_per_replica
        ),
        posture=posture,
        plane_lost=plane_lost,
    )
    for each in (slo, gateway, fields):
        each.done()
    if world.mode == "fluid" and posture == "active_passive":
        raise WorldError(
            "mode 'fluid': it can't play who holds the seat of posture active_passive; give request"
        )
    return world


def from_trace(file: str, *, rows_max: int | None = None, **fields: Any) -> FromTrace:
    """Its form by its name: ``.csv`` or ``.jsonl``, packed as ``.gz`` or not. Raises WorldError."""
    name = file.casefold().removesuffix(".gz")
    form = "csv" if name.endswith(".csv") else "jsonl" if name.endswith((".jsonl", ".ndjson")) else None
    if form is None:
        raise WorldError(f"trace {file!r}: give a file that ends in .csv or .jsonl (or these with .gz)")
    return FromTrace(file=file, form=form, rows_max=rows_max, **fields)


def _sources(fields: Fields, end_s: float | None, rows_max: int | None) -> tuple[Source, ...]:
    lengths = fields.child("lengths", needed=False) if "lengths" in fields else None
    inputs, outputs = (_length(lengths, name) if lengths else None for name in ("input", "output"))
    if lengths is not None:
        lengths.done()
    found: list[Source] = []
    for each in fields.children("arrivals"):
        kind = each.choice("kind", (*_PATHS, "trace", "servegen"))
        origin = each.text("origin") if "origin" in each else None
        if kind == "trace":
            speed = each.number("speed", 1.0, above=True, most=1000.0)
            deployment = each.text("deployment") if "deployment" in each else None
            file = each.text("file")
            found.append(
                from_trace(file, rows_max=rows_max, speed=speed, deployment=deployment, origin=origin)
            )
        elif end_s is None:
            raise WorldError(
                f"hours is missing: {each.where} of kind {kind} has no end by itself; give hours"
            )
        elif kind == "servegen":
            rate = (
                each.number("requests_per_s", above=True, most=_RATE_MAX)
                if "requests_per_s" in each
                else None
            )
            clients, tables = each.text("clients"), each.text("lengths")
            found.append(FromServeGen(clients=clients, lengths=tables, requests_per_s=rate, origin=origin))
        elif inputs is None or outputs is None:
            raise WorldError(
                f"lengths is missing: {each.where} of kind {kind} has none of its own; give lengths"
            )
        else:
            cv = each.number("cv", 1.0, least=0.05, most=20.0)
            found.append(Made(path=_PATHS[kind](each), cv=cv, inputs=inputs, outputs=outputs, origin=origin))
        each.done()
    return tuple(found)


def _length(lengths: Fields, name: str) -> Lognormal:
    one = lengths.child(name)
    found = Lognormal(one.number("mean", least=1.0, most=1e6), one.number("cv", 0.0, most=10.0))
    one.done()
    return found


def _rate(fields: Fields, name: str = "requests_per_s") -> float:
    return fields.number(name, most=_RATE_MAX)


def _poisson(fields: Fields) -> Callable[[float, Any], arrivals.RatePath]:
    per_s = _rate(fields)
    return lambda end_s, streams: arrivals.constant(per_s, end_s)


def _daily(fields: Fields) -> Callable[[float, Any], arrivals.RatePath]:
    per_s, swing = _rate(fields), fields.number("swing", most=1.0)
    peak_s = fields.number("peak_hour", 14.0, most=24.0) * 3600.0
    return lambda end_s, streams: arrivals.daily(per_s, swing, peak_s=peak_s, end_s=end_s)


def _steps(fields: Fields) -> Callable[[float, Any], arrivals.RatePath]:
    levels: list[tuple[float, float]] = []
    for each in fields.children("levels"):
        at_s = each.number("at_s")
        if (not levels and at_s) or (levels and at_s <= levels[-1][0]):
            raise each.wrong("at_s", at_s, "give rising times, the first one 0")
        levels.append((at_s, _rate(each)))
        each.done()

    def path(end_s: float, streams: Any) -> arrivals.RatePath:
        return arrivals.steps([level for level in levels if level[0] < end_s], end_s)

    return path


def _flash_crowd(fields: Fields) -> Callable[[float, Any], arrivals.RatePath]:
    base, peak = _rate(fields), _rate(fields, "peak_requests_per_s")
    at_s, rise_s = fields.number("at_s"), fields.number("rise_s", 60.0, above=True)
    hold_s, fall_s = fields.number("hold_s", 600.0, above=True), fields.number("fall_s", 600.0, above=True)
    return lambda end_s, streams: arrivals.flash_crowd(
        base, peak, at_s=at_s, rise_s=rise_s, hold_s=hold_s, fall_s=fall_s, end_s=end_s
    )


def _mmpp(fields: Fields) -> Callable[[float, Any], arrivals.RatePath]:
    states = []
    for each in fields.children("states"):
        states.append((_rate(each), each.number("stay_s", least=1.0)))
        each.done()
    where = fields.where
    return lambda end_s, streams: arrivals.mmpp(states, end_s, streams.of(f"rates {where}"))


_PATHS: Mapping[str, _Path] = {
    "poisson": _poisson,
    "gamma": _poisson,
    "daily": _daily,
    "steps": _steps,
    "flash_crowd": _flash_crowd,
    "mmpp": _mmpp,
}


def _service(fields: Fields) -> ServiceModel:
    """Coefficients, or what was measured: points of prompts' and of steps' times."""
    if "prefill" in fields or "decode" in fields:
        seats = fields.whole("seats", least=1, most=10_000)
        points = {name: fields.points(name) for name in ("prefill", "decode")}
        fields.done()
        try:
            return fitted(seats=seats, **points)
        except ValueError as error:
            raise WorldError(f"{fields.where}: {error}") from None
    values = {
        name: fields.number(name, 0.0, most=60.0)
        for name in ("prefill_base_s", "prefill_s_per_token", "itl_base_s", "itl_s_per_request")
    }
    seats = fields.whole("seats", least=1, most=10_000)
    fields.done()
    try:
        return ServiceModel(seats=seats, **values)
    except ValueError as error:
        raise WorldError(f"{fields.where}: {error}") from None


def _cold_start(fields: Fields) -> tuple[Phase, ...]:
    phases = []
    for name in PHASES:
        if name in fields:
            one = fields.child(name)
            phases.append(
                Phase(
                    name=name, mean_s=one.number("mean_s", most=86_400.0), cv=one.number("cv", 0.0, most=10.0)
                )
            )
            one.done()
    fields.done()
    if not phases:
        raise WorldError(f"cold_start has no phase: give one or more of: {', '.join(PHASES)}")
    return tuple(phases)


def _failures(fields: Fields) -> Failures:
    usual = Failures()
    failures = Failures(
        gpus_per_replica=fields.whole("gpus_per_replica", usual.gpus_per_replica, least=1, most=1000),
        gpu_failures_per_gpu_h=fields.number(
            "gpu_failures_per_gpu_h", usual.gpu_failures_per_gpu_h, most=10.0
        ),
        repair_s=fields.number("repair_s", usual.repair_s, above=True),
        zones_lost=fields.whole("zones_lost", 0, most=100),
        regions_lost=fields.whole("regions_lost", 0, most=100),
    )
    fields.done()
    return failures
