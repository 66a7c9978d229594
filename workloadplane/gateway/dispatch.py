"""A request finds its route: answered here (``local_routes``), or relayed: what ``routes`` lists."""

import time
from dataclasses import replace

from workloadplane.gateway import errors, routes
from workloadplane.gateway.admission import Caller, authorise
from workloadplane.gateway.attempt import Inquiry
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.entry import rate_charge
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.inquire import inquire
from workloadplane.gateway.local_routes import LocalRoutes, Network, Siblings, refuse
from workloadplane.gateway.peers import PEER_HEADER
from workloadplane.gateway.reader import Request
from workloadplane.gateway.relay import Relay
from workloadplane.gateway.server import ClientConnection
from workloadplane.gateway.websocket import handshake
from workloadplane.gateway.websocket.session import WebSocketSession
from workloadplane.protocol.routing import Route
from workloadplane.routing import is_handed_over


class Gateway:
    """What connections ask (``exchange.Application``)."""

    def __init__(
        self,
        context: GatewayContext,
        operator_networks: tuple[Network, ...],
        siblings: Siblings | None = None,
    ) -> None:
        self.limits = context.limits
        self.connections: set[ClientConnection] = set()
        self.body_bytes = 0
        self.draining = False
        self.cohort = context.cohort
        self._context = context
        self._siblings = siblings
        self._local = LocalRoutes(context, self, operator_networks, siblings)

    def admit(self, request: Request) -> Failure | None:
        """Judge a request by its headers alone."""
        found = self._find(request)
        return found if isinstance(found, Failure) else None

    def handle(self, connection: ClientConnection, request: Request) -> None:
        """Answer a request, now or over time."""
        if request.failure is not None:
            refuse(self._context, connection, request, request.failure)
            return
        if request.method == b"GET":
            local = self._local.find(request.path)
            if local is not None:
                local(connection, request)
                return
        if request.is_upgrade:
            self._begin_websocket(connection, request)
            return
        inquiry = self._inquire(request)
        if isinstance(inquiry, Failure):
            refuse(self._context, connection, request, inquiry)
            return
        siblings = self._siblings
        if siblings is not None and siblings.divert(connection, request, inquiry.route.deployment_id):
            return
        charge = rate_charge(self._context, inquiry, request.began_s)
        if isinstance(charge, Failure):
            refuse(self._context, connection, request, charge, inquiry)
        else:
            Relay(self._context, connection, inquiry, charge).start()

    def _begin_websocket(self, connection: ClientConnection, request: Request) -> None:
        handshake.take_key(request.headers)
        caller = authorise(self._context.registry, request, now=time.time())
        upgrade = handshake.read(request)
        if isinstance(caller, Failure):
            refuse(self._context, connection, request, _elsewhere(request, caller))
        elif isinstance(upgrade, Failure):
            refuse(self._context, connection, request, upgrade)
        elif not self._diverts_session(connection, request, upgrade, caller):
            WebSocketSession(self._context, connection, request, upgrade, caller).start()

    def _diverts_session(
        self, connection: ClientConnection, request: Request, upgrade: handshake.Upgrade, caller: Caller
    ) -> bool:
        """A session that names its model only later stays where it is."""
        siblings = self._siblings
        if siblings is None or upgrade.model is None:
            return False
        route = self._context.registry.route(caller.api_key.project_id, upgrade.model)
        return route is not None and siblings.divert(connection, request, route.deployment_id)

    def _find(self, request: Request) -> tuple[routes.Found, Caller] | Failure | None:
        """The route and whose request it is; ``None`` for what is answered here."""
        if request.path in self._local:
            if request.method == b"GET":
                return None
            return errors.method_not_allowed(request.method.decode("latin-1"), "GET or HEAD")
        return self._admitted(request)

    def _admitted(self, request: Request) -> tuple[routes.Found, Caller] | Failure:
        """The route of what is relayed, and whose request it is."""
        found = routes.find(request.method, request.path)
        if isinstance(found, Failure):
            return found
        registry, derived = self._context.registry, request.derived
        caller = authorise(registry, request, now=time.time())
        if isinstance(caller, Failure):
            return _elsewhere(request, caller)
        if derived is not None and caller.api_key.expires_at is None:  # all of it shows in head and tables
            derived.admitted, derived.at_changes = (found, caller), registry.changes
        return found, caller

    def _inquire(self, request: Request) -> Inquiry | Failure:
        derived = request.derived
        if (
            derived is not None
            and derived.admitted is not None
            and derived.at_changes == self._context.registry.changes
        ):
            asked = inquire(self._context, request, *derived.admitted)
        else:
            found = self._admitted(request) if request.path in routes.ROUTES else self._find(request)
            if found is None:
                return errors.unknown_route(request.method.decode("latin-1"), request.path.decode("latin-1"))
            if isinstance(found, Failure):
                return found
            asked = inquire(self._context, request, *found)
        if isinstance(asked, Failure):
            return _elsewhere(request, asked) if asked.code == "model_not_found" else asked
        refusal = asked.route.refusal
        if refusal is not None and (asked.to_peer or not self._waits_for(asked.route)):
            return _elsewhere(request, errors.not_served(asked.route.deployment, refusal))
        return asked

    def _waits_for(self, route: Route) -> bool:
        """Whether it is served again in a moment, as soon as another cluster has taken it over."""
        return is_handed_over(self._context.registry.snapshot(route, time.monotonic()))


def _elsewhere(request: Request, failure: Failure) -> Failure:
    """Tables do not change everywhere at once: a peer may know a key or a model that we do not know yet."""
    return replace(failure, unready=True) if PEER_HEADER in request.headers else failure
