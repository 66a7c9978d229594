"""Which of the replicas that may serve: the one where the answer begins soonest, as far as can be known from here.

A replica costs its load (what is in flight there against what it is meant for, what waits there to be computed,
and what it was lately sent beyond its share) and what it would have to compute anew: the part of the prompt that
it does not know, the adapter that it does not have. What a replica knows counts for nothing while it is busier
than the others by a margin, so that a prompt that everybody begins with spreads by itself. All replicas are
weighed at once, as rows.
"""

from collections.abc import Sequence
from itertools import compress
from random import Random

import msgspec
from xxhash import xxh3_64_intdigest

from workloadplane.routing.facts import Policy, Reasons, RequestFacts, Snapshot, ToReplica
from workloadplane.routing.places import values_in


class _Best(msgspec.Struct, frozen=True, gc=False):
    """The cheapest set of replicas so far: these bits, of which the least loaded cost ``cost``."""

    cost: float
    bits: int
    load: float
    known_bytes: int


def best(  # noqa: PLR0917  everything that a choice is made from
    candidates: int,
    counts: Sequence[int],
    facts: RequestFacts,
    snapshot: Snapshot,
    policy: Policy,
    rng: Random,
    *,
    why: str,
) -> ToReplica:
    """One of ``candidates`` (bits, at least one). ``counts``: in flight by place; ``why``: they are candidates."""
    places = snapshot.places
    if candidates & (candidates - 1) == 0:
        replica_id = places.replica_ids[candidates.bit_length() - 1]
        return ToReplica(replica_id, (why, "the only one"), _known_of(candidates, facts))
    loads = places.loads(counts, snapshot.burden, snapshot.pressure)
    if snapshot.lately:
        loads = _with_lately(loads, candidates, snapshot, policy)
    told: Reasons = ()
    if facts.adapter is None:
        chosen = _cheapest(candidates, facts, policy, loads)
    else:
        chosen, told = _with_adapter(candidates, facts, policy, loads)
    equal = _equals(chosen, loads, policy)
    place = equal[0] if len(equal) == 1 else _one_of(equal, facts, snapshot, rng)
    reasons: Reasons
    if chosen.known_bytes:
        reasons = (
            why,
            "bytes known",
            chosen.known_bytes,
            "of",
            facts.prompt_bytes,
            "load",
            chosen.load,
            *told,
        )
    else:
        reasons = (why, "least loaded of", candidates.bit_count(), *told)
    return ToReplica(places.replica_ids[place], reasons, chosen.known_bytes)


def pressure_of(
    running: int, waiting: int, kv_cache_usage: float | None, *, ours: int, target: float, policy: Policy
) -> float:
    """The load that an engine reports beyond the ``ours`` requests that this gateway has in flight there."""
    others = max(0, running + waiting - ours) / (target or 1.0)
    over = max(0.0, (kv_cache_usage or 0.0) - policy.kv_usage_free)
    return others + policy.kv_pressure * over / (1.0 - policy.kv_usage_free)


def _with_lately(loads: list[float], candidates: int, snapshot: Snapshot, policy: Policy) -> list[float]:
    """The loads, more for those that were lately sent beyond their share: over time all shall do as much."""
    sent = snapshot.places.row_of(snapshot.lately, 0.0)
    of_candidates = values_in(sent, candidates)
    mean = max(policy.balance_bytes, sum(of_candidates) / len(of_candidates))
    bar = mean * (1.0 + policy.balance_free)
    of_one = policy.balance / mean
    return [
        load if each <= bar else load + of_one * (each - bar) for load, each in zip(loads, sent, strict=True)
    ]


def _cheapest(candidates: int, facts: RequestFacts, policy: Policy, loads: Sequence[float]) -> _Best:
    of_candidates = values_in(loads, candidates)
    floor = min(of_candidates)
    cost, bits, load, known = floor + facts.prompt_bytes / policy.anew_bytes_per_load, candidates, floor, 0
    if facts.known:
        mean = sum(of_candidates) / len(of_candidates)
        ceiling = mean * (1.0 + policy.hot_excess) + policy.hot_slack
        rest = candidates
        for known_bytes, holders in facts.known:
            fresh = holders & rest
            if not fresh:
                continue
            rest ^= fresh
            anew = (facts.prompt_bytes - known_bytes) / policy.anew_bytes_per_load
            if floor + anew >= cost:
                break  # what follows knows less still
            least = min(values_in(loads, fresh)) if rest else floor
            if least <= ceiling and least + anew < cost:
                cost, bits, load, known = least + anew, fresh, least, known_bytes
    return _Best(cost, bits, load, known)


def _with_adapter(
    candidates: int, facts: RequestFacts, policy: Policy, loads: Sequence[float]
) -> tuple[_Best, Reasons]:
    """Those that have the adapter; others only when those are busy, and of them only who may load one now."""
    warm = facts.adapter_warm & candidates
    may_load = candidates & ~warm & facts.adapter_open
    if not warm:
        return _cheapest(may_load or candidates, facts, policy, loads), ("adapter is loaded",)
    at_warm = _cheapest(warm, facts, policy, loads)
    if may_load and min(values_in(loads, warm)) > policy.adapter_spread_load:
        elsewhere = _cheapest(may_load, facts, policy, loads)
        if elsewhere.cost + policy.adapter_cost < at_warm.cost:
            return elsewhere, ("adapter spreads",)
    return at_warm, ("adapter is there",)


def _equals(chosen: _Best, loads: Sequence[float], policy: Policy) -> list[int]:
    """The places in the cheapest set that count as its least loaded ones."""
    bits = chosen.bits
    if bits & (bits - 1) == 0:
        return [bits.bit_length() - 1]
    bar = chosen.load + policy.load_slack
    if bar > chosen.load:
        return [place for place, load in enumerate(loads) if load <= bar and bits >> place & 1]
    equal, place = [], -1
    for _ in range(loads.count(bar)):
        place = loads.index(bar, place + 1)
        if bits >> place & 1:
            equal.append(place)
    return equal


def _one_of(equal: list[int], facts: RequestFacts, snapshot: Snapshot, rng: Random) -> int:
    """Of equals the one that the session falls to, so that it stays the same while they are equal; without one,
    the one that was sent least lately.
    """
    ids = snapshot.places.replica_ids
    if facts.session is None:
        lately = snapshot.lately
        if lately:
            sent = [lately.get(ids[place], 0.0) for place in equal]
            least = min(sent)
            equal = list(compress(equal, map(least.__eq__, sent)))
        return equal[rng.randrange(len(equal))]
    seed = xxh3_64_intdigest(facts.session.encode())
    return max(equal, key=lambda place: xxh3_64_intdigest(ids[place].encode(), seed))


def _known_of(bit: int, facts: RequestFacts) -> int:
    return next((known_bytes for known_bytes, bits in facts.known if bits & bit), 0)
