"""The demand that is planned for: what usage shows, and until that is known what the owner has stated.

The rule. Usage speaks for itself once it goes back ``USAGE_KNOWN_FOR``. Before, the greater of usage and stated demand
is planned for, origin by origin; without any usage, the stated demand alone. What is stated for all regions together is
parted evenly over the regions where gateways meet clients and let them in. Pure; reads and writes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from controlplane.placement import Demand

USAGE_KNOWN_FOR = timedelta(hours=1)


@dataclass(frozen=True)
class Usage:
    """One origin's demand by usage, and how far back the deployment's usage goes."""

    demand: Demand
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
    measured = {row.demand.origin_region: row.demand for row in usage}
    if usage and now - min(row.known_since for row in usage) >= USAGE_KNOWN_FOR:
        return [measured[origin] for origin in sorted(measured)]
    prior = {row.origin_region: row for row in _stated(deployment_id, stated, everywhere)}
    return [
        _greater(measured[origin], prior[origin])
        if origin in measured and origin in prior
        else (measured.get(origin) or prior[origin])
        for origin in sorted(measured.keys() | prior.keys())
    ]


def _stated(
    deployment_id: str, stated: Iterable[Mapping[str, Any]], everywhere: Sequence[str]
) -> Iterator[Demand]:
    for entry in stated:
        origins = [entry["origin"]] if entry.get("origin") else everywhere
        for origin in origins:
            requests_per_s = entry["requests_per_s"] / len(origins)
            tokens_per_s = entry["output_tokens_per_s"] / len(origins)
            yield Demand(
                deployment_id=deployment_id,
                origin_region=origin,
                requests_per_s_p50=requests_per_s,
                requests_per_s_p95=requests_per_s,
                tokens_per_s_p50=tokens_per_s,
                tokens_per_s_p95=tokens_per_s,
            )


def _greater(one: Demand, other: Demand) -> Demand:
    return replace(
        one,
        requests_per_s_p50=max(one.requests_per_s_p50, other.requests_per_s_p50),
        requests_per_s_p95=max(one.requests_per_s_p95, other.requests_per_s_p95),
        tokens_per_s_p50=max(one.tokens_per_s_p50, other.tokens_per_s_p50),
        tokens_per_s_p95=max(one.tokens_per_s_p95, other.tokens_per_s_p95),
    )
