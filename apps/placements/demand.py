"""The demand that is planned for: what usage shows, and until that is known what the owner has stated.

The rule. Usage speaks for itself once it goes back ``USAGE_KNOWN_FOR``: part of a day does not show its busiest hour.
Before, the greater of usage and stated demand is planned for, origin by origin; without any usage, the stated demand
alone. What is stated for all regions together is parted evenly over the regions where gateways meet clients and let
them in. Pure; reads and writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from controlplane.placement import Demand

USAGE_KNOWN_FOR = timedelta(hours=24)

#: Per second; what is below is none.
RATE_LEAST = 1e-6

#: Output tokens of a request: rates that are further apart do not speak of the same requests.
TOKENS_PER_REQUEST_LEAST, TOKENS_PER_REQUEST_MOST = 0.01, 1_000_000


class Rates(NamedTuple):
    """Per second; tokens are output tokens."""

    requests_p50: float
    requests_p95: float
    tokens_p50: float
    tokens_p95: float


@dataclass(frozen=True)
class Usage:
    """One origin's demand by usage, and how far back the deployment's usage goes."""

    origin: str
    rates: Rates
    known_since: datetime


def demand_planned(
    deployment_id: str,
    *,
    usage: Sequence[Usage],
    stated: Iterable[Mapping[str, Any]],
    everywhere: Sequence[str],
    now: datetime,
) -> list[Demand]:
    """What to plan for, by origin. ``everywhere``: the regions over which a demand without an origin is parted."""
    rates = {row.origin: row.rates for row in usage}
    if not usage or now - min(row.known_since for row in usage) < USAGE_KNOWN_FOR:
        for origin, prior in _stated(stated, everywhere).items():
            rates[origin] = Rates(*map(max, rates.get(origin, prior), prior))
    return [_demand(deployment_id, origin, rates[origin]) for origin in sorted(rates)]


def _stated(stated: Iterable[Mapping[str, Any]], everywhere: Sequence[str]) -> dict[str, Rates]:
    found = {}
    for entry in stated:
        origins = [entry["origin"]] if entry.get("origin") else everywhere
        for origin in origins:
            requests_per_s = entry["requests_per_s"] / len(origins)
            tokens_per_s = entry["output_tokens_per_s"] / len(origins)
            found[origin] = Rates(requests_per_s, requests_per_s, tokens_per_s, tokens_per_s)
    return found


@lru_cache(maxsize=40_000)
def _demand(deployment_id: str, origin: str, rates: Rates) -> Demand:
    """Equal rates give the same value, checked once.

    Next to no tokens count as none, as where answers are vectors; next to no requests as none for the tokens.
    """
    requests_p50, requests_p95, tokens_p50, tokens_p95 = rates
    if requests_p95 < RATE_LEAST:
        requests_p50 = requests_p95 = 0.0
    if tokens_p95 < RATE_LEAST:
        tokens_p50 = tokens_p95 = 0.0
    if tokens_p95 < TOKENS_PER_REQUEST_LEAST * requests_p95:
        tokens_p50 = tokens_p95 = 0.0
    elif tokens_p95 > TOKENS_PER_REQUEST_MOST * requests_p95:
        requests_p50 = requests_p95 = 0.0
    return Demand(
        deployment_id=deployment_id,
        origin_region=origin,
        requests_per_s_p50=requests_p50,
        requests_per_s_p95=requests_p95,
        tokens_per_s_p50=tokens_p50,
        tokens_per_s_p95=tokens_p95,
    )
