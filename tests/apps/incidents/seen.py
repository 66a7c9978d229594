"""What agents tell, by hand: who is heard, and how the gateways of each see the others."""

from datetime import datetime, timedelta
from typing import Any

from apps.agents.models import AgentSession
from apps.incidents.models import IncidentWatch
from tests.support.fleet_world import FleetWorld


def all_sound(world: FleetWorld, now: datetime) -> None:
    """Every agent was heard just now, and every gateway sees every other one."""
    for name in world.clusters:
        heard(world, name, now)


def heard(world: FleetWorld, name: str, now: datetime, *, lost: tuple[str, ...] = (), **facts: Any) -> None:
    """One agent calls home, and tells which others its gateways have lost. Somebody looked a moment before."""
    IncidentWatch.objects.filter(organization=world.organization, looked_at__lt=now).update(
        looked_at=now - timedelta(seconds=2)
    )
    peers = [
        {
            "cluster_id": str(cluster.pk),
            "state": "ejected" if other in lost else "healthy",
            "has_lost": other in lost,
            "cause": "silent" if other in lost else "",
            "state_for_s": 1.0,
        }
        for other, cluster in world.clusters.items()
        if other != name
    ]
    AgentSession.objects.filter(cluster=world.clusters[name]).update(
        last_sync_at=now,
        lease_expires_at=now + timedelta(seconds=6),
        facts={"peers": peers, "gateways_connected": 1} | facts,
    )


def died(world: FleetWorld, name: str, now: datetime, *, heard_ago_s: float) -> None:
    """All others go on being heard, and say that they have lost it. Its agent was heard so long ago."""
    others = [other for other in world.clusters if other != name]
    for other in others:
        heard(world, other, now, lost=(name,))
    last = now - timedelta(seconds=heard_ago_s)
    AgentSession.objects.filter(cluster=world.clusters[name]).update(
        last_sync_at=last, lease_expires_at=last + timedelta(seconds=6)
    )
