"""One try at one replica or peer gateway, as a handshake."""

from workloadplane.gateway.attempt import Attempt, Inquiry, statement_to, target_of
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.heads import Served
from workloadplane.gateway.peers import PEER_HEADER, sign
from workloadplane.gateway.upstream import Target
from workloadplane.gateway.websocket.handshake import Upgrade, request_head
from workloadplane.routing import ToPeer


def shake_with_replica(
    context: GatewayContext, inquiry: Inquiry, upgrade: Upgrade, replica_id: str, request_id: str
) -> tuple[Attempt, bytes]:
    """For a replica of this cluster, and the ``Sec-WebSocket-Accept`` that it must answer."""
    registry = context.registry
    endpoint = registry.endpoints[replica_id]
    target = Target(endpoint.host, endpoint.port, endpoint.tls, endpoint.tls_name)
    head, expected = request_head(
        upgrade,
        model=endpoint.served_model
        if inquiry.adapter is None
        else f"{endpoint.served_model}:{inquiry.adapter}",
        authority=target.authority,
        credential=b"Bearer " + endpoint.engine_key.encode(),
        headers=inquiry.request.headers,
        request_id=request_id,
    )
    served = Served(
        cluster_id=registry.cluster_id,
        region=registry.region,
        replica_id=replica_id,
        revision_id=endpoint.revision_id,
        revision=endpoint.revision,
        pool_id=endpoint.pool_id,
    )
    traffic = context.traffic.of(endpoint.deployment_id, endpoint.revision_id)
    return Attempt(replica_id, target, head + b"\r\n", b"", served, None, traffic), expected


def shake_with_peer(
    context: GatewayContext, inquiry: Inquiry, upgrade: Upgrade, choice: ToPeer, request_id: str
) -> tuple[Attempt, bytes] | None:
    """For a peer's gateway, with the client's key and our statement; ``None`` if we can't speak to it."""
    registry = context.registry
    peer = registry.peer(choice.cluster_id)
    target = target_of(peer.url) if peer else None
    if peer is None or target is None or context.private_key is None:
        return None
    headers = inquiry.request.headers
    head, expected = request_head(
        upgrade,
        model=inquiry.body.model,
        authority=target.authority,
        credential=headers.get(b"authorization") or b"Bearer " + headers[b"x-api-key"],
        headers=headers,
        request_id=request_id,
    )
    statement = statement_to(context, inquiry, peer, request_id, may_hold=choice.may_hold)
    head += b"%s: %s\r\n\r\n" % (PEER_HEADER, sign(statement, context.private_key))
    served = Served(peer.cluster_id, peer.region, None, "", 0, None)
    attempt = Attempt(peer.cluster_id, target, head, b"", served, peer, None, may_hold=choice.may_hold)
    return attempt, expected
