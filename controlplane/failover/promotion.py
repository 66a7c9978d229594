"""Which cluster is to serve an ``active_passive`` deployment, by what is known of those that could.

The one that the plan names, or that was promoted before, for as long as it can. One that cannot is left for the first
that surely can: heard just now, with a ready replica and a gateway. Where none surely can, nothing moves: an observer
that hears nobody is more likely cut off itself than the last one alive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Cause = Literal["", "silent", "no_replica", "no_gateway"]


@dataclass(frozen=True)
class PromotionPolicy:
    """Seconds.

    silent_s: unheard for so long, a cluster's lease is over or about to be: nothing is lost by asking for another
    heard_s:  who is promoted was heard within this
    unable_s: heard, but without a ready replica or a gateway for so long: its agent has had time to mend it
    """

    silent_s: float
    heard_s: float
    unable_s: float = 3.0


@dataclass(frozen=True)
class Candidate:
    """A cluster that holds replicas of the deployment. Times in seconds, 0 where there is nothing to tell.

    silent_s:    since it was last heard
    unready_s:   for so long it has had no ready replica
    ungated_s:   for so long its agent has had no gateway
    """

    cluster_id: str
    silent_s: float
    unready_s: float
    ungated_s: float


@dataclass(frozen=True)
class Promotion:
    """``cluster_id``: who is to serve; ``cause``: why it is not the first in line, empty where it is."""

    cluster_id: str
    cause: Cause


def promotion(candidates: Sequence[Candidate], policy: PromotionPolicy) -> Promotion | None:
    """Who is to serve, of candidates in the order in which they are wanted; None without any."""
    if not candidates:
        return None
    first, *others = candidates
    cause = _cause(first, policy)
    if cause:
        for other in others:
            if _surely_can(other, policy):
                return Promotion(other.cluster_id, cause)
    return Promotion(first.cluster_id, "")


def _cause(candidate: Candidate, policy: PromotionPolicy) -> Cause:
    if candidate.silent_s >= policy.silent_s:
        return "silent"
    if candidate.unready_s >= policy.unable_s:
        return "no_replica"
    return "no_gateway" if candidate.ungated_s >= policy.unable_s else ""


def _surely_can(candidate: Candidate, policy: PromotionPolicy) -> bool:
    return candidate.silent_s <= policy.heard_s and candidate.unready_s == 0 and candidate.ungated_s == 0
