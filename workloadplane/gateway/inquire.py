"""From a request whose route and caller are known to what is asked: which model, which deployment, which replica."""

import msgspec

from workloadplane.gateway import body, errors, multipart, routes
from workloadplane.gateway.admission import Caller
from workloadplane.gateway.affinity import NO_PROMPT, Prompt
from workloadplane.gateway.attempt import Inquiry
from workloadplane.gateway.body import InferenceBody, ResponsesBody
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.entry import wish_of
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.reader import Request

#: Of classes whose prompts are not looked into.
_UNREAD = {each.name: Prompt(0, (), each.modalities) for each in routes.ROUTES.values() if each.modalities}


def inquire(
    context: GatewayContext, request: Request, found: routes.Found, caller: Caller
) -> Inquiry | Failure:
    """What is asked, or what is wrong with the question."""
    route_class = found.route_class
    if found.response_id is not None:
        return _stored(context, request, route_class, caller, found.response_id)
    model_at = None
    if route_class.body == routes.MULTIPART:
        form = multipart.parse(request.body, request.headers.get(b"content-type"))
        if isinstance(form, Failure):
            return form
        parsed, model_at = form.body, form.model_at
    else:
        read = body.parse(request.body, route_class.members)
        if isinstance(read, Failure):
            return read
        parsed = read
    route = context.registry.route(caller.api_key.project_id, parsed.model)
    if route is None:
        return errors.model_not_found(parsed.model)
    holder = None
    if isinstance(parsed, ResponsesBody):
        if parsed.background:
            return errors.background_unsupported()
        if parsed.previous_response_id is not None:
            previous = parsed.previous_response_id
            holder = context.response_ids.find_holder(context.registry, route, previous)
            if holder is None:
                return errors.response_not_found(previous)
    wish = wish_of(request, parsed, caller)
    if isinstance(wish, Failure):
        return wish
    adapter = None if parsed.model == route.deployment else parsed.model[len(route.deployment) + 1 :]
    prompt = _UNREAD.get(route_class.name, NO_PROMPT)
    if route_class.keeps_prompts:
        prompt = context.affinity.prompt_of(parsed, route.project_id, adapter)
    characters = _characters(parsed) if route_class.is_spoken else 0
    return Inquiry(
        request, route_class, caller, parsed, route, wish, model_at, holder, prompt, adapter, characters
    )


def _characters(parsed: InferenceBody) -> int:
    """Of the text that is to be spoken; 0 for what is none, which the engine refuses."""
    try:
        return len(msgspec.json.decode(parsed.input, type=str))
    except msgspec.DecodeError:
        return 0
    finally:
        parsed.forget_prompt()


def _stored(
    context: GatewayContext,
    request: Request,
    route_class: routes.RouteClass,
    caller: Caller,
    response_id: str,
) -> Inquiry | Failure:
    """About a response that was stored before: whose it is and where it lies is in its id."""
    ids, registry = context.response_ids, context.registry
    route = ids.find_route(registry, caller.api_key.project_id, response_id)
    holder = ids.find_holder(registry, route, response_id) if route is not None else None
    if route is None or holder is None:
        return errors.response_not_found(response_id)
    about = InferenceBody(model=route.deployment)
    wish = wish_of(request, about, caller)
    if isinstance(wish, Failure):
        return wish
    return Inquiry(request, route_class, caller, about, route, wish, None, holder)
