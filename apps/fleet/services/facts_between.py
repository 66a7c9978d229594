"""Facts between two regions, for all organizations: how far it is, and what it costs to send."""

from collections.abc import Mapping
from typing import Any

from apps.api.actors import Actor
from apps.api.problems import field_problem
from apps.api.services import audit_record, one_transaction
from apps.fleet.models import Cluster, NetworkPrice, Region, RegionLatency
from apps.fleet.services.announce import fleet_changed


@one_transaction
def latency_set(*, actor: Actor, origin: str, target: str, rtt_ms: float) -> RegionLatency:
    """The round-trip time from one region to another; replaces what was said before.

    Raises Problem ``invalid_document`` for an unknown region.
    """
    ends = _ends(origin, target)
    latency, is_new = RegionLatency.objects.select_for_update().get_or_create(
        origin=ends["origin"], target=ends["target"], defaults={"rtt_ms": rtt_ms}
    )
    before = None if is_new else {"rtt_ms": latency.rtt_ms}
    if is_new or latency.rtt_ms != rtt_ms:
        latency.rtt_ms = rtt_ms
        latency.save(update_fields=["rtt_ms"])
        _said(actor, latency, ends, before, {"rtt_ms": rtt_ms})
    return latency


@one_transaction
def network_price_set(*, actor: Actor, origin: str, target: str, micro_usd_per_gib: int) -> NetworkPrice:
    """What a GiB costs from ``target``, which serves, to clients in ``origin``; replaces what was said before.

    Raises Problem ``invalid_document`` for an unknown region.
    """
    ends = _ends(origin, target)
    price, is_new = NetworkPrice.objects.select_for_update().get_or_create(
        origin=ends["origin"], target=ends["target"], defaults={"micro_usd_per_gib": micro_usd_per_gib}
    )
    before = None if is_new else {"micro_usd_per_gib": price.micro_usd_per_gib}
    if is_new or price.micro_usd_per_gib != micro_usd_per_gib:
        price.micro_usd_per_gib = micro_usd_per_gib
        price.save(update_fields=["micro_usd_per_gib"])
        _said(actor, price, ends, before, {"micro_usd_per_gib": micro_usd_per_gib})
    return price


def _ends(origin: str, target: str) -> dict[str, Region]:
    known = {region.name: region for region in Region.objects.filter(name__in=[origin, target])}
    for pointer, name in (("/origin", origin), ("/target", target)):
        if name not in known:
            raise field_problem(
                pointer, "is not a known region", value=name[:80], remedy="create the region first"
            )
    return {"origin": known[origin], "target": known[target]}


def _said(
    actor: Actor,
    row: RegionLatency | NetworkPrice,
    ends: Mapping[str, Region],
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
) -> None:
    """In the audit trail, and to everybody who has a cluster at one of the ends."""
    names = {end: region.name for end, region in ends.items()}
    audit_record(actor=actor, action="set", subject=row, before=before, after={**names, **after})
    concerned = Cluster.objects.filter(region__in=list(ends.values()))
    for organization_id in sorted(set(concerned.values_list("organization_id", flat=True))):
        fleet_changed(organization_id=organization_id)
