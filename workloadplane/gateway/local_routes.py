"""What a gateway answers itself: how it is, what it sees, what can be asked for.

``/livez``, ``/readyz``, ``/health``, ``/.well-known/meridian/regions``, ``GET /v1/models``; to peers what is here
(``regions.LOAD_PATH``); to the operator's networks alone ``/metrics``, ``/debug/regions`` and
``/debug/explain/<request id>``.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Protocol
from urllib.parse import unquote

import msgspec

from workloadplane.gateway import dialects, errors, explain, heads, metrics, routes
from workloadplane.gateway.accesslog import AccessLine
from workloadplane.gateway.admission import authorise
from workloadplane.gateway.attempt import Inquiry
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.decoded import names_of
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.loads import RegionWord
from workloadplane.gateway.peers import PEER_HEADER, sign_answer, verify
from workloadplane.gateway.reader import Request
from workloadplane.gateway.regions import LOAD_PATH
from workloadplane.gateway.server import ClientConnection
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.routing import Route
from workloadplane.routing import can_serve

_MODEL = b"/v1/models/"
_JSON = b"content-type: application/json\r\n"
LocalRoute = Callable[[ClientConnection, Request], None]
Network = IPv4Network | IPv6Network


class Serving(Protocol):
    """The process's side of this: what it has open and whether it goes on."""

    connections: set[ClientConnection]
    body_bytes: int
    draining: bool


class Siblings(Protocol):
    """Further processes that share the port."""

    def divert(self, connection: ClientConnection, request: Request, deployment_id: str) -> bool:
        """Pass a request to the process that owns its deployment's queue; whether it is on its way there."""

    def pass_to(self, connection: ClientConnection, request: Request, index: int) -> bool:
        """Pass a request to the process with this index; whether it is on its way there."""


def request_id_of(context: GatewayContext, request: Request) -> str:
    """The client's own, or a new one."""
    given = heads.acceptable_request_id(request.headers.get(b"x-request-id"))
    return given or context.next_request_id()


def refuse(
    context: GatewayContext,
    connection: ClientConnection,
    request: Request,
    failure: Failure,
    inquiry: Inquiry | None = None,
) -> None:
    """Answer with an error and the request's id, by which support can be asked: the log says why.

    ``inquiry``: what it asks of whom, where that is known.
    """
    route_class, request_id = routes.class_name(request.path), request_id_of(context, request)
    context.counters.requests["", route_class, "", str(failure.status), "refused"] += 1
    key = inquiry.caller.api_key if inquiry is not None else None
    context.access_log.add(
        AccessLine(
            time=time.time(),
            request_id=request_id,
            route=route_class,
            status=failure.status,
            outcome="refused",
            project_id=key.project_id if key is not None else "",
            api_key_id=key.api_key_id if key is not None else "",
            deployment=inquiry.route.deployment if inquiry is not None else "",
            replica_id=None,
            served_region=None,
            reasons=(failure.code,),
            attempts=0,
            queue_s=0.0,
            ttft_s=None,
            duration_s=time.monotonic() - request.began_s,
            input_tokens=0,
            output_tokens=0,
        )
    )
    connection.fail(failure, request_id)


class LocalRoutes:
    """One per process."""

    def __init__(
        self,
        context: GatewayContext,
        serving: Serving,
        operator_networks: tuple[Network, ...],
        siblings: Siblings | None,
    ) -> None:
        self._context = context
        self._serving = serving
        self._operator_networks = operator_networks
        self._siblings = siblings
        self._routes: dict[bytes, LocalRoute] = {
            b"/livez": self._live,
            b"/readyz": self._ready,
            b"/health": self._ready,
            b"/metrics": self._metrics,
            b"/.well-known/meridian/regions": self._regions,
            LOAD_PATH: self._load,
            b"/v1/models": self._models,
            b"/debug/regions": self._region_states,
        }

    def __contains__(self, path: bytes) -> bool:
        """Whether this is answered here alone."""
        return path in self._routes or path.startswith(_MODEL)

    def find(self, path: bytes) -> LocalRoute | None:
        """Who answers it here."""
        route = self._routes.get(path)
        if route is None and path.startswith(_MODEL):
            return self._model
        if route is None and path.startswith(explain.PREFIX):
            return self._explain
        return route

    def _live(self, connection: ClientConnection, request: Request) -> None:
        connection.respond(200, _JSON, b'{"status":"ok"}')

    def _ready(self, connection: ClientConnection, request: Request) -> None:
        missing = self._missing()
        told = msgspec.json.encode({"status": "not ready" if missing else "ok", "missing": missing})
        connection.respond(503 if missing else 200, _JSON, told)

    def _missing(self) -> list[str]:
        """Why this process can't serve now; empty = it can."""
        missing = self._context.registry.not_ready_because()
        return [*missing, "shutting down"] if self._serving.draining else missing

    def _metrics(self, connection: ClientConnection, request: Request) -> None:
        """Of this process, or with ``?process=<index>`` of one of those that share its port."""
        if not self.is_operator(connection.remote):
            refuse(self._context, connection, request, errors.unknown_route("GET", "/metrics"))
            return
        named = request.query.removeprefix(b"process=")
        wanted = int(named) if named.isdigit() and len(named) < 4 else -1
        if self._siblings is not None and self._siblings.pass_to(connection, request, wanted):
            return
        context = self._context
        context.ledger.write()
        text = metrics.render(
            context.counters,
            context.traffic,
            gauges=self._gauges(),
            standing=metrics.standing(context.registry),
            peers=context.vantage.views(time.monotonic()),
        )
        connection.respond(200, b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n", text)

    def _gauges(self) -> dict[str, tuple[str, float]]:
        """What this process holds and knows just now, by metric: its help text and its value."""
        context = self._context
        return {
            "meridian_gateway_connections": (
                "Client connections open",
                float(len(self._serving.connections)),
            ),
            "meridian_gateway_websockets": ("WebSocket sessions open", float(len(context.websockets))),
            "meridian_gateway_body_bytes": ("Bodies at hand", float(self._serving.body_bytes)),
            "meridian_gateway_queue_bytes": (
                "Bodies that wait for a replica",
                float(context.room.size_bytes),
            ),
            "meridian_gateway_unsent_bytes": (
                "Answers that wait for their clients to read",
                float(sum(each.unsent_bytes for each in self._serving.connections)),
            ),
            "meridian_gateway_usage_records_lost": (
                "Usage records that the disk did not take",
                float(context.spool.lost_records),
            ),
            "meridian_gateway_access_lines_dropped": (
                "Access log lines that nobody read",
                float(context.access_log.dropped_lines),
            ),
            "meridian_gateway_spans_sent": (
                "Spans that the collector took",
                float(context.tracer.sent_spans),
            ),
            "meridian_gateway_spans_lost": (
                "Spans that the collector did not take, or that found no room",
                float(context.tracer.lost_spans),
            ),
            "meridian_gateway_plane_stale": (
                "1 while the control plane was not heard for longer than the table's soft time-to-live",
                float(context.registry.is_plane_stale(time.monotonic())),
            ),
            "meridian_gateway_distrusts_itself": (
                "1 while so many regions are silent that this gateway is more likely cut off itself",
                float(context.vantage.distrusts_itself),
            ),
            "meridian_gateway_routing_issued_timestamp_seconds": (
                "When the control plane made the routing table in force, by its clock; 0 = there is none",
                context.registry.routing_issued_at,
            ),
            "meridian_gateway_forwarding_expired": (
                "1 while the control plane was not heard for so long that nothing is passed on to other regions",
                float(not context.registry.may_forward(time.monotonic())),
            ),
        }

    def _explain(self, connection: ClientConnection, request: Request) -> None:
        if not self.is_operator(connection.remote):
            connection.fail(errors.unknown_route("GET", request.path.decode("latin-1")))
            return
        request_id = request.path[len(explain.PREFIX) :].decode("latin-1")
        self._context.ledger.write()
        choices = self._context.explained.of(request_id)
        if choices is None:
            connection.fail(errors.not_explained(request_id))
        else:
            told = {"request_id": request_id, "choices": choices}
            connection.respond(200, _JSON, msgspec.json.encode(told))

    def _region_states(self, connection: ClientConnection, request: Request) -> None:
        """The other regions as they are seen from here, each with its evidence."""
        if not self.is_operator(connection.remote):
            refuse(self._context, connection, request, errors.unknown_route("GET", "/debug/regions"))
            return
        vantage, registry = self._context.vantage, self._context.registry
        told = {
            "observer": {"cluster_id": registry.cluster_id, "region": registry.region},
            "distrusts_itself": vantage.distrusts_itself,
            "regions": vantage.views(time.monotonic()),
        }
        connection.respond(200, _JSON, msgspec.json.encode(told))

    def is_operator(self, remote: str) -> bool:
        """Whether it asks from one of the operator's networks."""
        try:
            address = ip_address(remote)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # on a socket that listens for both
        return any(address in network for network in self._operator_networks)

    def _regions(self, connection: ClientConnection, request: Request) -> None:
        """Where a client may go, this gateway first; ``rtt_ms`` and ``state`` as seen from here."""
        header = self._context.registry.header
        regions: list[dict[str, object]] = []
        rtt_ms = {name: facts.rtt_ms for name, facts in self._context.registry.peer_facts.items()}
        if header is not None:
            regions.append(
                {
                    "region": header.region,
                    "cluster": header.cluster_name,
                    "jurisdiction": header.jurisdiction,
                    "url": header.gateway_url or None,
                    "rtt_ms": 0.0,
                    "state": "healthy",
                }
            )
            regions += [
                {
                    "region": peer.region,
                    "cluster": peer.cluster_name,
                    "jurisdiction": peer.jurisdiction,
                    "url": peer.url,
                    "rtt_ms": rtt_ms[peer.cluster_id],
                    "state": self._context.vantage.state(peer.cluster_id),
                }
                for peer in sorted(header.peers, key=lambda peer: rtt_ms[peer.cluster_id])
            ]
        told = {"generation": self._context.registry.generation("routing"), "regions": regions}
        connection.respond(200, _JSON + b"cache-control: max-age=10\r\n", msgspec.json.encode(told))

    def _load(self, connection: ClientConnection, request: Request) -> None:
        """What may be known of this region, and what it sees of others, for its peers alone."""
        context = self._context
        registry, key = context.registry, context.private_key
        value = request.headers.get(PEER_HEADER, b"")
        told = verify(value, audience=registry.cluster_id, now=time.time(), peer=registry.peer)
        if isinstance(told, Refusal):
            refuse(context, connection, request, errors.peer_refused(told))
        elif key is not None:
            now_s = time.monotonic()
            word = RegionWord(
                ready=not self._missing(),
                loads=context.loads.here(registry, context.room, now_s),
                seen=context.vantage.sightings(now_s),
            )
            body = msgspec.json.encode(word)
            proof = b"%s: %s\r\n" % (PEER_HEADER, sign_answer(value, body, key))
            connection.respond(200, _JSON + proof, body)
        else:
            refuse(context, connection, request, errors.internal())

    def _models(self, connection: ClientConnection, request: Request) -> None:
        """The project's deployments that this gateway may take requests for."""
        listed = self._listed(request)
        if isinstance(listed, Failure):
            refuse(self._context, connection, request, listed)
        else:
            ends = {"first_id": listed[0]["id"], "last_id": listed[-1]["id"]} if listed else {}
            told = {"object": "list", "data": listed, "has_more": False, **ends}
            self._answer(connection, request, told)

    def _model(self, connection: ClientConnection, request: Request) -> None:
        """One of them."""
        name = unquote(request.path[len(_MODEL) :].decode("ascii"))
        listed = self._listed(request)
        if isinstance(listed, Failure):
            refuse(self._context, connection, request, listed)
            return
        for model in listed:
            if model["id"] == name:
                self._answer(connection, request, model)
                return
        refuse(self._context, connection, request, errors.model_not_found(name))

    def _answer(self, connection: ClientConnection, request: Request, told: dict[str, object]) -> None:
        head = _JSON + dialects.request_id_lines(request, request_id_of(self._context, request))
        connection.respond(200, head, msgspec.json.encode(told))

    def _listed(self, request: Request) -> list[dict[str, object]] | Failure:
        registry = self._context.registry
        caller = authorise(registry, request, now=time.time())
        if isinstance(caller, Failure):
            return caller
        return [
            {
                "id": name,
                "object": "model",
                "created": route.created_at,
                "owned_by": "meridian",
                "root": route.model,
                **({} if name == route.deployment else {"parent": route.deployment}),
                **(_as_anthropic(route, name) if dialects.is_anthropic(request) else {}),
            }
            for route in registry.routes_of(caller.api_key.project_id)
            if route.placed and can_serve(registry.snapshot(route, time.monotonic())) is None
            for name in names_of(route)
        ]


def _as_anthropic(route: Route, name: str) -> dict[str, object]:
    """What Anthropic's clients want to know of a model besides."""
    created_at = datetime.fromtimestamp(route.created_at, UTC).isoformat()
    return {"type": "model", "display_name": name, "created_at": created_at}
