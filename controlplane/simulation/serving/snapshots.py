"""What a simulated gateway's picker sees: one revision, its replicas here, and what others are to it."""

from collections.abc import Collection, Mapping

from workloadplane.routing import PeerFacts, ReplicaFacts, RevisionShare, Snapshot
from workloadplane.routing.regions import RevisionLoad

#: The only ones that there are.
DEPLOYMENT, REVISION = "deployment", "revision"


def snapshot_of(
    name: str,
    replicas: tuple[ReplicaFacts, ...],
    in_flight: Mapping[str, int],
    *,
    holders: tuple[str, ...],
    jurisdiction: str = "",
    residency: frozenset[str] = frozenset(),
    posture: str = "active_active",
    peers: Mapping[str, PeerFacts] | None = None,
    unready: Collection[str] = (),
    here: Mapping[str, RevisionLoad] | None = None,
    lease_holds: bool = True,
) -> Snapshot:
    """Of the cluster ``name``. ``holders``: clusters that hold the deployment, who serves it before who stands by."""
    return Snapshot(
        cluster_id=name,
        jurisdiction=jurisdiction,
        residency=residency,
        residency_ingress="forward",
        posture=posture,
        revisions=(RevisionShare(REVISION, 100, holders),),
        replicas=replicas,
        peers={} if peers is None else peers,
        in_flight=in_flight,
        unavailable=(),
        unready=unready,
        lease_holds=lease_holds,
        here={} if here is None else here,
    )
