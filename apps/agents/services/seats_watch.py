"""Watching over ``active_passive`` deployments: who served and is lost has its lease ended and its standby promoted.

One observer at a time looks twice a second (``apps.agents.wire.watch``). What it has seen is in its memory alone: one
that begins anew, or was stopped for a while, gives every cluster time to be heard. A look that finds nothing to do
reads three small tables and writes nothing; all that is decided is decided again where tables are compiled.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from uuid import UUID

from apps.agents import selectors
from apps.agents.leases import SERVING_LEASE_S
from apps.agents.models import ServingSeat
from apps.agents.services.seats_settle import PROMOTION, Evidence, Silence, seat_of, sign_of_life, standing
from apps.agents.services.tables_compile import organization_tables_compile
from apps.fleet import selectors as fleet
from apps.fleet.models import Cluster
from controlplane.failover import Listening, ListeningPolicy, has_yielded, listen

LISTENING = ListeningPolicy()
#: Where nothing came of it, an organization is not compiled again for the same reason before this.
_AGAIN_S = 5.0


class SeatWatch:
    """An observer. Times are of its own monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._listening = Listening()
        self._unready_since: dict[tuple[UUID, UUID], float] = {}
        self._ungated_since: dict[UUID, float] = {}
        self._compiled_s: dict[UUID, float] = {}

    def look(self, now_s: float) -> list[UUID]:
        """Settle what is due by now; the organizations whose tables were compiled for it. Raises DatabaseError."""
        seats: dict[UUID, list[ServingSeat]] = defaultdict(list)
        for seat in selectors.serving_seats():
            seats[seat.deployment.project.organization_id].append(seat)
        clusters = {key: fleet.clusters_watched(organization_id=key) for key in seats}
        evidence = self._seen(seats, clusters, now_s)
        compiled = []
        for organization_id, own in seats.items():
            if self._is_due(organization_id, own, clusters[organization_id], evidence, now_s):
                organization_tables_compile(organization_id=organization_id, evidence=evidence)
                compiled.append(organization_id)
        return compiled

    def _seen(
        self,
        seats: Mapping[UUID, list[ServingSeat]],
        clusters: Mapping[UUID, list[Cluster]],
        now_s: float,
    ) -> Evidence:
        markers = {cluster.pk: sign_of_life(cluster) for rows in clusters.values() for cluster in rows}
        named = {str(pk): marker for pk, marker in markers.items()}
        self._listening = listen(self._listening, named, now_s, LISTENING)
        ready = selectors.ready_places(deployment_ids=[row.pk for rows in seats.values() for row in rows])
        places = {
            (seat.pk, cluster.pk)
            for organization_id, rows in seats.items()
            for seat in rows
            for cluster in clusters[organization_id]
        }
        ungated = {cluster.pk for rows in clusters.values() for cluster in rows if _is_ungated(cluster)}
        self._unready_since = {key: self._unready_since.get(key, now_s) for key in places - ready}
        self._ungated_since = {key: self._ungated_since.get(key, now_s) for key in ungated}
        return Evidence(
            silences={
                pk: Silence(marker, self._listening.silent_s(str(pk), marker, now_s))
                for pk, marker in markers.items()
            },
            unready_s={key: max(_MOMENT_S, now_s - since_s) for key, since_s in self._unready_since.items()},
            ungated_s={key: max(_MOMENT_S, now_s - since_s) for key, since_s in self._ungated_since.items()},
        )

    def _is_due(
        self,
        organization_id: UUID,
        seats: Iterable[ServingSeat],
        clusters: Iterable[Cluster],
        evidence: Evidence,
        now_s: float,
    ) -> bool:
        """Whether compiling may change a seat."""
        standings = {str(cluster.pk): standing(cluster, evidence) for cluster in clusters}
        for seat in seats:
            known = seat_of(seat)
            if any(has_yielded(row, standings, lease_s=SERVING_LEASE_S) for row in known.yielding):
                return True
            if known.serving is not None and self._fails(seat, clusters, evidence):
                if now_s - self._compiled_s.get(organization_id, -math.inf) < _AGAIN_S:
                    continue
                self._compiled_s[organization_id] = now_s
                return True
        return False

    def _fails(self, seat: ServingSeat, clusters: Iterable[Cluster], evidence: Evidence) -> bool:
        """Whether who serves can't, while somebody else might."""
        by_id = {cluster.pk: cluster for cluster in clusters}
        serving = by_id.pop(seat.serving_id, None) if seat.serving_id else None
        lost = serving is None or (
            evidence.silent_s(serving) >= PROMOTION.silent_s
            or evidence.unready_s.get((seat.pk, serving.pk), 0.0) >= PROMOTION.unable_s
            or evidence.ungated_s.get(serving.pk, 0.0) >= PROMOTION.unable_s
        )
        return lost and any((seat.pk, pk) not in evidence.unready_s for pk in by_id)


#: What lacks something now has lacked it for longer than no time at all.
_MOMENT_S = 0.001


def _is_ungated(cluster: Cluster) -> bool:
    """Whether its agent says that no gateway is connected; one that does not say is believed to have some."""
    session = getattr(cluster, "session", None)
    return session is not None and session.facts.get("gateways_connected") == 0
