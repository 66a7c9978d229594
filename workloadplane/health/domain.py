"""The state of a failure domain (a cluster's gateway, a region, a pool, a provider) for one observer, as one table.

::

                doubted                 condemned
    healthy ───────────────▶ suspect ───────────────▶ ejected
       ▲  ◀──── cleared ───── │                        │  ▲
       │                      │ returned      returned │  │ condemned
       │                      ▼                        ▼  │
       └────── trusted ──── probation ◀────────────────┘──┘
                             └─▶ advanced, doubted

``suspect`` gets no new sessions, ``ejected`` gets nothing. ``probation`` gets a share that rises rung by rung and
falls back to the first at every doubt; only after the last rung is it ``healthy`` again. Whoever was lost from sight
comes back through probation, whoever was only doubted is cleared at once. Nobody is healthy before anything was
heard of him: a new domain is ``suspect``.

Holds keep it from flapping: an event that comes before its state has been held for long enough changes nothing, as
one that the state does not know.
"""

from math import inf
from typing import Final, Literal, get_args

import msgspec

from workloadplane.protocol.refusal import Refusal

DomainState = Literal["healthy", "suspect", "ejected", "probation"]
DomainEvent = Literal[
    "doubted",  # what is seen of it here is not sound
    "cleared",  # it is sound again, and was never lost from sight
    "condemned",  # so many observers have lost it that it counts as dead
    "returned",  # it was lost from sight, and answers steadily
    "advanced",  # a rung of the ramp was held without a doubt
    "trusted",  # the last one was
]

DOMAIN_STATES: Final[tuple[DomainState, ...]] = get_args(DomainState)

TRANSITIONS: Final[dict[tuple[DomainState, DomainEvent], DomainState]] = {
    ("healthy", "doubted"): "suspect",
    ("suspect", "cleared"): "healthy",
    ("suspect", "condemned"): "ejected",
    ("suspect", "returned"): "probation",
    ("ejected", "returned"): "probation",
    ("probation", "advanced"): "probation",
    ("probation", "doubted"): "probation",
    ("probation", "condemned"): "ejected",
    ("probation", "trusted"): "healthy",
}


class RampPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How trust comes back; times in seconds.

    shares:         of the requests that would go there, rung by rung
    rung_s:         each rung is held so long at least
    suspect_s:      so long at least before it is cleared
    ejected_s:      so long at least before it may return, twice as long at each further ejection, up to
                    ``ejected_s_max``; after ``forget_s`` without one the next ejection counts as the first again
    """

    shares: tuple[float, ...] = (0.01, 0.05, 0.25, 1.0)
    rung_s: float = 5.0
    suspect_s: float = 0.5
    ejected_s: float = 2.0
    ejected_s_max: float = 60.0
    forget_s: float = 600.0


class Standing(msgspec.Struct, frozen=True, gc=False):
    """One domain's state. ``since_s``: of this state, or of this rung; ``cause``: of the event that led here.

    rung:      of the ramp, while on probation
    ejections: in a row, without ``forget_s`` between them; ``ejected_at_s``: the last one
    """

    state: DomainState = "suspect"
    since_s: float = -inf
    cause: str = ""
    rung: int = 0
    ejections: int = 0
    ejected_at_s: float = -inf


#: Nothing has been heard of it yet.
UNHEARD: Final = Standing()


class Transition(msgspec.Struct, frozen=True, gc=False):
    """One step that was taken."""

    before: Standing
    event: DomainEvent
    after: Standing


def step(
    standing: Standing, event: DomainEvent, now_s: float, policy: RampPolicy, cause: str = ""
) -> Transition | Refusal:
    """The transition that an event causes, or why it causes none; nothing has changed then."""
    state = TRANSITIONS.get((standing.state, event))
    if state is None:
        known = sorted(name for held, name in TRANSITIONS if held == standing.state)
        return _refused("domain_transition", standing, event, f"it knows {', '.join(known)}")
    is_last = standing.rung >= len(policy.shares) - 1
    if (event == "trusted" and not is_last) or (event == "advanced" and is_last):
        return _refused(
            "domain_ramp", standing, event, "every rung of the ramp is climbed, one after the other"
        )
    until_s = held_until_s(standing, policy)
    if event not in ("doubted", "condemned") and now_s < until_s:
        return _refused("domain_hold", standing, event, f"wait for {until_s - now_s:.1f} s")
    ejections, ejected_at_s = standing.ejections, standing.ejected_at_s
    if event == "condemned":
        lately = now_s - ejected_at_s < policy.forget_s
        ejections, ejected_at_s = (ejections + 1 if lately else 1), now_s
    rung = standing.rung + 1 if event == "advanced" else 0
    return Transition(standing, event, Standing(state, now_s, cause, rung, ejections, ejected_at_s))


def held_until_s(standing: Standing, policy: RampPolicy) -> float:
    """Until then it neither rises nor returns."""
    if standing.state == "suspect":
        return standing.since_s + policy.suspect_s
    if standing.state == "ejected":
        lasts_s = policy.ejected_s * 2.0 ** min(standing.ejections - 1, 30)
        return standing.since_s + min(policy.ejected_s_max, lasts_s)
    return standing.since_s + policy.rung_s if standing.state == "probation" else -inf


def share(standing: Standing, policy: RampPolicy) -> float:
    """Of the requests that would go there, how many may."""
    return policy.shares[standing.rung] if standing.state == "probation" else 1.0


def _refused(rule: str, standing: Standing, event: DomainEvent, remedy: str) -> Refusal:
    return Refusal(rule=rule, subject=f"a domain that is {standing.state}", value=event, remedy=remedy)
