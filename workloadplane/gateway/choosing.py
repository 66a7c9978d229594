"""Where a request goes now: what is known of it and of its deployment, put before the routing room."""

from time import monotonic

from msgspec.structs import replace

from workloadplane.gateway.attempt import Inquiry
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.stored import go_to
from workloadplane.routing import Choice, Reasons, ToPeer, ToReplica, only_revision, pick

NOBODY: frozenset[str] = frozenset()
#: Choices that send the request to somebody.
GOES = (ToReplica, ToPeer)


def choose(
    context: GatewayContext,
    inquiry: Inquiry,
    revision_id: str | None,
    request_id: str,
    tried: frozenset[str] = NOBODY,
    *,
    is_next: bool = False,
    because: Reasons = (),
) -> Choice:
    """Choose, and note the choice.

    revision_id: the only one that may serve it now; tried: who has failed it; is_next: it has waited
    because:     how a seat here came to be free for it
    """
    snapshot = context.registry.snapshot(inquiry.route, monotonic())
    if revision_id is not None:
        snapshot = only_revision(snapshot, revision_id)
    if inquiry.holder is not None:
        facts = None
        choice = go_to(inquiry.holder, snapshot, tried=tried, may_forward=not inquiry.to_peer)
    else:
        affinity = context.affinity
        facts = affinity.facts(inquiry, snapshot, tried, is_next=is_next)
        choice = pick(facts, snapshot, affinity.policy, context.rng)
    if because and isinstance(choice, ToReplica):
        choice = replace(choice, reasons=choice.reasons + because)
    context.ledger.chose(request_id, inquiry.route.deployment_id, facts, snapshot, choice)
    return choice
