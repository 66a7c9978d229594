"""What no row of a problem may say: numbers out of a sane range, twice the same, lists that contradict each other.

A number far outside of what exists is nearly always another unit: a rate per minute, a price per month, milliseconds
for seconds. Each ``ValueError`` names the row, the field, its value and what to give instead.
"""

from collections.abc import Callable, Collection, Hashable, Iterable
from typing import NamedTuple, TypeVar

Row = TypeVar("Row")

#: The smallest number above 0.
ABOVE_ZERO = 5e-324
#: A rate below is none: quotients of smaller ones are no numbers any more.
LEAST_RATE = 1e-6


class RowError(ValueError):
    """What is wrong with one row. ``row``: the row itself, so that whoever tells it knows whom it concerns."""

    def __init__(self, text: str, row: object) -> None:
        super().__init__(text)
        self.row = row


class Range(NamedTuple):
    """What a field may be; None is always allowed. ``remedy`` says what to give."""

    field: str
    least: float
    most: float
    remedy: str


_DAY_S = 24 * 3600

POOL = (
    Range(
        "obtainability",
        ABOVE_ZERO,
        1,
        "give the share of asked-for instances that were had, above 0, 1 at most",
    ),
    Range("capacity_instances", 0, 1e7, "give how many instances the pool may have, 0 or more"),
    Range("hazard_per_h", 0, 60, "give the expected losses of one instance per hour, 0 to 60"),
    Range("gpus_per_instance", 1, 1024, "an instance has 1 GPU or more"),
    Range(
        "instance_micro_usd_per_h", 0, 1e15, "give the price of an instance in micro-USD per hour, 0 or more"
    ),
    Range(
        "gpu_micro_usd_per_h",
        0,
        1e9,
        "give micro-USD per hour of an instance; a GPU costs 1,000 USD/h at most",
    ),
)
RESERVATION = (
    Range("instances", 0, 1e7, "give how many instances are reserved, 0 or more"),
    Range(
        "instance_micro_usd_per_h", 0, 1e13, "give the price of an instance in micro-USD per hour, 0 or more"
    ),
)
SLO = (
    Range("ttft_s_p95", ABOVE_ZERO, 3600, "give seconds, above 0 and at most 3,600"),
    Range("inter_token_latency_s_p95", ABOVE_ZERO, 3600, "give seconds, above 0 and at most 3,600"),
)
DEPLOYMENT = (
    Range("gpus_per_replica", 1, 1024, "a replica needs 1 GPU or more"),
    Range("weights_bytes", 0, 1e15, "give bytes, 0 or more"),
    Range("concurrency_target", ABOVE_ZERO, 1e6, "give requests at once for one replica, above 0"),
)
DEMAND = tuple(
    Range(f"{unit}_per_s_{quantile}", 0, most, f"give {unit} per second, 0 to {most:,.0f}")
    for unit, most in (("requests", 1e6), ("tokens", 1e9))
    for quantile in ("p50", "p95")
)
#: Output tokens of one request. Requests that are refused or cancelled have none, so that a mean may be below 1.
TOKENS_PER_REQUEST = Range(
    "tokens_per_request",
    0.01,
    1e6,
    "give both rates per second, tokens as output tokens: 0.01 to 1,000,000 a request",
)
PROFILE = (
    Range("requests_per_s", LEAST_RATE, 1e6, "give what one replica was measured to do in a second, above 0"),
    Range("tokens_per_s", LEAST_RATE, 1e9, "give output tokens of one replica in a second, above 0"),
    Range("tensor_parallel", 1, 1024, "give the GPUs of one replica, 1 or more"),
    *(
        Range(phase, 0, _DAY_S, "give seconds, a day at most")
        for phase in ("gpu_procurement_s", "image_pull_s", "weight_load_s", "engine_start_s")
    ),
)
LATENCY = (Range("rtt_ms", 0, 2000, "give the round trip in milliseconds, 0 to 2,000"),)
NETWORK_PRICE = (Range("micro_usd_per_gib", 0, 1e8, "give micro-USD for a GiB, 0 to 100 USD"),)
BUDGET = (Range("micro_usd_per_h", 0, 1e15, "give micro-USD per hour, 0 or more"),)
CURRENT = (
    Range("min_replicas", 0, 1e7, "give 0 or more"),
    Range("planned_replicas", 0, 1e7, "give 0 or more"),
    Range("gpus_per_replica", 1, 1024, "a replica needs 1 GPU or more"),
)
OCCUPANCY = (
    Range("replicas", 0, 1e7, "give 0 or more"),
    Range("gpus_per_replica", 1, 1024, "a replica needs 1 GPU or more"),
)
WEIGHTS = (
    *(
        Range(name, 0, 1e6, "give a finite number, 0 or more")
        for name in (
            *("interruption_h", "refusal_h", "spot_horizon_h", "cache_h", "handover_h", "hysteresis"),
            *("network_free_s", "late_micro_usd_per_request_s", "wire_bytes_per_token"),
            *("relaxed_survivability_h", "relaxed_latency_h", "missing_replica_h"),
        )
    ),
    Range("amortise_h", ABOVE_ZERO, 1e6, "give the hours over which moves are paid back, above 0"),
    Range("network_ttft_share", 0, 1, "give a share of the TTFT target, 0 to 1"),
)


def within(row: Row, ranges: Iterable[Range], named: Callable[[Row], str], *, part_of: object = None) -> None:
    """Raises RowError for the first field of ``row`` that is out of its range or not a number.

    ``part_of``: the row whose part it is, if it is no row by itself.
    """
    for field, least, most, remedy in ranges:
        value = getattr(row, field)
        if value is not None and not least <= value <= most:
            raise RowError(f"{named(row)}: {field} is {value}; {remedy}", part_of or row)


def unique(kind: str, keys: Iterable[Hashable]) -> None:
    """Raises ValueError for the first key that is there twice."""
    seen: set[Hashable] = set()
    for key in keys:
        if key in seen:
            named = " ".join(str(part) for part in key) if isinstance(key, tuple) else key
            raise ValueError(f"{kind} {named} is there twice; give each once")
        seen.add(key)


def known(kind: str, field: str, ids: Iterable[str], all_ids: Collection[str], among: str) -> None:
    """Raises ValueError for the first id that refers to nothing."""
    for identifier in ids:
        if identifier not in all_ids:
            raise ValueError(
                f"{kind}: {field} {identifier} is not among the {among}; add it, or drop the row"
            )
