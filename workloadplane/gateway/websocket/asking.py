"""From a session's model to what is asked: which deployment, in which class, against which limits."""

from dataclasses import replace

from workloadplane.gateway import errors
from workloadplane.gateway.admission import Caller
from workloadplane.gateway.attempt import Inquiry
from workloadplane.gateway.body import InferenceBody
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.entry import rate_charge, wish_of
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.queueing.rate_limits import Charge
from workloadplane.gateway.reader import Request
from workloadplane.gateway.routes import REALTIME


def inquire(
    context: GatewayContext, request: Request, caller: Caller, model: str
) -> tuple[Inquiry, Charge | None] | Failure:
    """What is asked and what was counted for it, or why it can't be."""
    route = context.registry.route(caller.api_key.project_id, model)
    if route is None:
        failure = errors.model_not_found(model)
        return replace(failure, unready=True) if caller.statement is not None else failure
    body = InferenceBody(model=model)
    wish = wish_of(request, body, caller)
    if isinstance(wish, Failure):
        return wish
    adapter = None if model == route.deployment else model[len(route.deployment) + 1 :]
    inquiry = Inquiry(request, REALTIME, caller, body, route, wish, adapter=adapter)
    charge = rate_charge(context, inquiry, request.began_s)
    return charge if isinstance(charge, Failure) else (inquiry, charge)
