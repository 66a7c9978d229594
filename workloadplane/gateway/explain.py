"""Why a request went where it went: the latest choices, kept as they were made and put into words when asked.

``GET /debug/explain/<request id>``, for operators' networks only. Nothing of what was said is kept, nor the
session's name: sizes, counts and the constants of the routing room.
"""

from collections import OrderedDict

import msgspec

from workloadplane.protocol.refusal import Refusal
from workloadplane.routing import Choice, RequestFacts, Snapshot, ToPeer, ToReplica
from workloadplane.routing.places import Places, places_in

PREFIX = b"/debug/explain/"
#: Of one request: one that waits chooses again and again.
_CHOICES_MAX = 16
_NAMES_MAX = 8
_NOTHING_WEIGHED = RequestFacts(None, may_forward=False)


class _Made(msgspec.Struct, frozen=True, gc=False):
    at: float
    deployment_id: str
    facts: RequestFacts | None
    places: Places
    choice: Choice


class Explained:
    """The choices of the last ``requests_max`` requests, of each ``one_in``-th one only."""

    def __init__(self, *, requests_max: int, one_in: int) -> None:
        self._one_in = one_in
        self._requests_max = requests_max
        self._met = 0
        self._made: OrderedDict[str, _Made | list[_Made]] = OrderedDict()

    def note(
        self,
        request_id: str,
        deployment_id: str,
        facts: RequestFacts | None,
        snapshot: Snapshot,
        choice: Choice,
        *,
        at: float,
    ) -> None:
        """Keep a choice. ``facts``: ``None`` where nothing had to be weighed; ``at``: seconds since 1970."""
        before = self._made.get(request_id)
        if before is None:
            self._met += 1
            if self._met % self._one_in:
                return
        made = _Made(at, deployment_id, facts, snapshot.places, choice)
        if before is None:
            if len(self._made) >= self._requests_max:
                self._made.popitem(last=False)
            self._made[request_id] = made  # most choose once: a list for the others only
        elif isinstance(before, list):
            if len(before) >= _CHOICES_MAX:
                del before[1]  # the first and the latest tell most
            before.append(made)
        else:
            self._made[request_id] = [before, made]

    def of(self, request_id: str) -> list[dict[str, object]] | None:
        """The request's choices in order, in words; ``None`` if none is kept."""
        made = self._made.get(request_id)
        if made is None:
            return None
        return [_told(each) for each in (made if isinstance(made, list) else (made,))]


def _told(made: _Made) -> dict[str, object]:
    facts = made.facts or _NOTHING_WEIGHED
    return {
        "at": made.at,
        "deployment_id": made.deployment_id,
        **_outcome(made.choice),
        "adapter": facts.adapter,
        "tried": sorted(facts.tried),
        "prompt_bytes": facts.prompt_bytes,
        "known": _levels(facts, made.places),
        "ready_replicas": made.places.ready.bit_count(),
    }


def _outcome(choice: Choice) -> dict[str, object]:
    if isinstance(choice, Refusal):
        return {
            "choice": "refuse",
            "target": None,
            "reasons": f"{choice.rule}: {choice.value}; {choice.remedy}",
        }
    words = " ".join(f"{each:.3f}" if isinstance(each, float) else str(each) for each in choice.reasons)
    if isinstance(choice, ToReplica):
        return {"choice": "replica", "target": choice.replica_id, "reasons": words}
    if isinstance(choice, ToPeer):
        return {"choice": "peer", "target": choice.cluster_id, "reasons": words}
    return {"choice": "wait", "target": None, "reasons": words}


def _levels(facts: RequestFacts, places: Places) -> list[dict[str, object]]:
    """Who was believed to know how much of the prompt, the longest first."""
    levels = []
    for size, bits in facts.known:
        names = [places.replica_ids[place] for place in places_in(bits) if place < len(places.replica_ids)]
        levels.append({"bytes": size, "replicas": len(names), "among_them": names[:_NAMES_MAX]})
    return levels
