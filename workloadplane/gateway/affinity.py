"""What this gateway knows of every replica's KV cache and of the prompts on their way there.

It owns the routing room's prefix indexes, one a deployment, and tells them what was routed where. A prompt is
hashed once, from the bytes that came; the hashes go with the request, its text is not kept.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

import msgspec

from workloadplane.gateway.abroad import Abroad
from workloadplane.gateway.body import InferenceBody
from workloadplane.gateway.modalities import held_in
from workloadplane.gateway.registry import Registry
from workloadplane.protocol.local import EngineLoad, EngineLoads
from workloadplane.protocol.routing import Route
from workloadplane.routing import Policy, RequestFacts, Snapshot, ToReplica, adapters
from workloadplane.routing.adapters import AdapterSlots
from workloadplane.routing.blocks import chain, prompt_text, seed_of
from workloadplane.routing.places import Places
from workloadplane.routing.prefix import (
    Bounds,
    Cleared,
    Event,
    Fleet,
    PrefixIndex,
    Routed,
    Turned,
    shrink,
    step,
)
from workloadplane.routing.scoring import pressure_of

#: Of all deployments together.
_BLOCKS_MAX = 300_000
#: JSON around the text included; only the reach of what is believed depends on it.
_BYTES_PER_TOKEN = 4
#: What any request weighs beside the prompt that it brings, where equals are told apart by what they were sent.
_REQUEST_BYTES = 1024
_HALF_LIFE_S = 20.0
#: Of requests in flight, one every sweep: as many as an engine's word is old, at most.
_SAMPLES = 16
#: What an engine said of itself counts for so long.
_LOAD_HOLDS_S = 6.0
_SEEDS_MAX = 4_096
_NOTHING: frozenset[str] = frozenset()


class Prompt(msgspec.Struct, frozen=True, gc=False):
    """A prompt as the routing room sees it. ``modalities``: what it holds, as far as is known."""

    size_bytes: int
    hashes: Sequence[int]
    modalities: frozenset[str] = _NOTHING


NO_PROMPT = Prompt(0, ())


@dataclass(slots=True)
class _Deployment:
    index: PrefixIndex
    places: Places
    adapters: AdapterSlots = field(default_factory=AdapterSlots)


class Asked(Protocol):
    """``attempt.Inquiry``."""

    @property
    def body(self) -> InferenceBody: ...
    @property
    def route(self) -> Route: ...
    @property
    def prompt(self) -> Prompt: ...
    @property
    def adapter(self) -> str | None: ...
    @property
    def to_peer(self) -> bool: ...


class Affinity:
    """One per process."""

    def __init__(
        self, registry: Registry, *, secret: int, policy: Policy | None = None, blocks_max: int = _BLOCKS_MAX
    ) -> None:
        """``secret``: where chains begin, so that nobody outside can make two prompts collide."""
        self.policy = policy or Policy()
        self.abroad = Abroad()
        self._registry = registry
        self._secret = secret
        self._blocks_max = blocks_max
        self._deployments: dict[str, _Deployment] = {}
        self._loads_at_s: dict[str, float] = {}
        self._kv_tokens: dict[str, int] = {}
        self._kv_told: dict[str, EngineLoad] = {}
        self._faded_at_s = 0.0
        self._seeds: dict[tuple[str, str | None], int] = {}
        self._in_flight_lately: deque[tuple[float, dict[str, int]]] = deque(maxlen=_SAMPLES)

    def prompt_of(self, body: InferenceBody, project_id: str, adapter: str | None) -> Prompt:
        """The body's prompt; the body lets go of it, and with it of the bytes that came."""
        tools, told, asked, salt = body.take_prompt()
        text = prompt_text(tools, told, asked) if tools or told else prompt_text(asked)
        if not text:
            return NO_PROMPT
        seed = self._seeds.get((project_id, adapter)) if not salt else None
        if seed is None:
            seed = self._seed(project_id, adapter, salt)
        return Prompt(len(text), chain(text, seed), held_in(asked))

    def _seed(self, project_id: str, adapter: str | None, salt: bytes) -> int:
        """Without a salt it is the same for all of a project's prompts, and kept."""
        seed = seed_of(self._secret, project_id.encode(), (adapter or "").encode(), salt)
        if not salt:
            if len(self._seeds) >= _SEEDS_MAX:
                self._seeds.clear()
            self._seeds[project_id, adapter] = seed
        return seed

    def facts(
        self, asked: Asked, snapshot: Snapshot, tried: frozenset[str], *, is_next: bool = False
    ) -> RequestFacts:
        """What the routing room must know of the request. ``is_next``: it has waited and it is its turn."""
        prompt, adapter = asked.prompt, asked.adapter
        deployment_id, places = asked.route.deployment_id, snapshot.places
        known: Sequence[tuple[int, int]] = ()
        if prompt.hashes and len(snapshot.replicas) > 1:
            held = self._deployments.get(deployment_id)
            if held is None or held.places is not places:
                held = self._held_of(deployment_id, places)
            known = held.index.match(prompt.hashes)
        abroad, session, may_forward = self.abroad, asked.body.session, not asked.to_peer
        if adapter is None and not (abroad.knows_any or is_next):  # the way of most
            return RequestFacts(
                session, may_forward, tried, prompt.size_bytes, known, None, prompt.modalities
            )
        warm, may_load = 0, -1
        if adapter is not None:
            loaded = self._held_of(deployment_id, places).adapters
            warm, may_load = loaded.warm(adapter), loaded.open(monotonic())
        known_abroad = abroad.known(deployment_id, prompt.hashes) if abroad.knows_any else None
        return RequestFacts(
            session,
            may_forward,
            tried,
            prompt.size_bytes,
            known,
            adapter,
            prompt.modalities,
            warm,
            may_load,
            known_abroad,
            is_next,
        )

    def routed(self, asked: Asked, choice: ToReplica, now_s: float) -> int:
        """The request goes there; the bytes of its prompt that must be computed, as far as is known."""
        prompt, replica_id, registry = asked.prompt, choice.replica_id, self._registry
        held = self._deployments.get(asked.route.deployment_id)
        place = held.places.place_of.get(replica_id) if held is not None else None
        if held is not None and place is not None:
            if prompt.hashes:
                step(held.index, Routed(place, prompt.hashes), now_s)
            if asked.adapter is not None:
                adapters.step(held.adapters, adapters.Used(place, asked.adapter), now_s)
        anew_bytes = prompt.size_bytes - choice.known_bytes
        endpoint = registry.endpoints.get(replica_id)
        if endpoint is not None:  # against what it is meant for, so that all are compared as they are
            lately = registry.lately
            of_target = (anew_bytes + _REQUEST_BYTES) / (endpoint.concurrency_target or 1.0)
            lately[replica_id] = lately.get(replica_id, 0.0) + of_target
        return anew_bytes

    def cleared(self, deployment_id: str, replica_id: str, now_s: float) -> None:
        """The replica has lost its cache."""
        held = self._deployments.get(deployment_id)
        place = held.places.place_of.get(replica_id) if held is not None else None
        if held is not None and place is not None:
            step(held.index, Cleared(place), now_s)

    def put_on(self, replica_id: str, anew_bytes: int) -> float:
        """So much of a prompt must be computed there; give what comes back to ``lift`` once it is."""
        load = anew_bytes / self.policy.bytes_per_load
        burden = self._registry.burden
        burden[replica_id] = burden.get(replica_id, 0.0) + load
        return load

    def lift(self, replica_id: str, load: float) -> None:
        """It has been computed, or never will be."""
        burden = self._registry.burden
        left = burden.get(replica_id, 0.0) - load
        if left > 1e-9:
            burden[replica_id] = left
        else:
            burden.pop(replica_id, None)

    @property
    def blocks(self) -> int:
        """Pairs of block and replica that are kept."""
        return sum(held.index.blocks for held in self._deployments.values())

    def take_loads(self, message: EngineLoads, now_s: float) -> None:
        """Heed what engines say of themselves beyond what this gateway has sent them. Old news is no news."""
        registry = self._registry
        learned = False
        for load in message.loads:
            endpoint = registry.endpoints.get(load.replica_id)
            if endpoint is None or now_s - load.at_monotonic_s > _LOAD_HOLDS_S:
                continue
            ours = self._ours_about(load.replica_id, load.at_monotonic_s)
            pressure = pressure_of(
                load.running,
                load.waiting,
                load.kv_cache_usage,
                ours=ours,
                target=endpoint.concurrency_target,
                policy=self.policy,
            )
            self._loads_at_s[load.replica_id] = load.at_monotonic_s
            if pressure > 0.0:
                registry.pressure[load.replica_id] = pressure
            else:
                registry.pressure.pop(load.replica_id, None)
            self._take_kv(endpoint.deployment_id, load, now_s)
            if load.kv_capacity_tokens and load.kv_capacity_tokens != self._kv_tokens.get(load.replica_id):
                self._kv_tokens[load.replica_id] = load.kv_capacity_tokens
                learned = True
        if learned:
            for held in self._deployments.values():
                step(held.index, _fleet(held.places, self._kv_tokens), held.index.used_at_s)

    def _take_kv(self, deployment_id: str, load: EngineLoad, now_s: float) -> None:
        """What has come into an engine's cache since its last word drives out what is believed of it."""
        before = self._kv_told.get(load.replica_id)
        self._kv_told[load.replica_id] = load
        if before is None:
            return
        if load.kv_clears != before.kv_clears:
            self.cleared(deployment_id, load.replica_id, now_s)
        stored, stored_before = load.kv_stored_tokens_total, before.kv_stored_tokens_total
        held = self._deployments.get(deployment_id)
        place = held.places.place_of.get(load.replica_id) if held is not None else None
        if held is None or place is None or stored is None or stored_before is None:
            return
        if load.kv_capacity_tokens:
            share = max(0, stored - stored_before) / load.kv_capacity_tokens
            step(held.index, Turned(place, share), now_s)

    def sweep(self, now_s: float) -> None:
        """Forget loads that are old, deployments that are in no table any more, and of the longest unused when
        there is too much.
        """
        registry = self._registry
        self._fade(now_s)
        self._in_flight_lately.append((now_s, dict(registry.in_flight)))
        for name in [n for n, at_s in self._loads_at_s.items() if now_s - at_s > _LOAD_HOLDS_S]:
            del self._loads_at_s[name]
            registry.pressure.pop(name, None)
        for name in [name for name in self._kv_tokens if name not in registry.endpoints]:
            del self._kv_tokens[name]
        for name in [name for name in self._kv_told if name not in registry.endpoints]:
            del self._kv_told[name]
        deployments = self._registry.deployments
        for name in [name for name in self._deployments if name not in deployments]:
            del self._deployments[name]
        by_use = sorted(self._deployments.values(), key=lambda held: held.index.used_at_s)
        for held in by_use:
            while self.blocks > self._blocks_max and held.index.blocks:
                shrink(held.index)

    def _fade(self, now_s: float) -> None:
        """What was sent a while ago counts less and less."""
        share = 0.5 ** ((now_s - self._faded_at_s) / _HALF_LIFE_S)
        self._faded_at_s = now_s
        endpoints, lately = self._registry.endpoints, self._registry.lately
        for name, sent in list(lately.items()):
            if name in endpoints and sent > 1.0:
                lately[name] = sent * share
            else:
                del lately[name]

    def _ours_about(self, replica_id: str, at_s: float) -> int:
        """The most that this gateway had in flight there about then, so that its own requests are nobody else's."""
        near = [counts for taken_s, counts in self._in_flight_lately if abs(taken_s - at_s) < 1.0]
        return max((counts.get(replica_id, 0) for counts in (*near, self._registry.in_flight)), default=0)

    def _held_of(self, deployment_id: str, places: Places) -> _Deployment:
        held = self._deployments.get(deployment_id)
        if held is None or held.places is not places:
            if held is None:
                held = _Deployment(PrefixIndex(Bounds(self._blocks_max)), places)
                self._deployments[deployment_id] = held
            held.places = places
            step(held.index, _fleet(places, self._kv_tokens), held.index.used_at_s)
            endpoints = self._registry.endpoints
            slots = tuple(
                endpoints[name].adapter_slots if name in endpoints else 0 for name in places.replica_ids
            )
            names = tuple(name or None for name in places.replica_ids)
            adapters.step(held.adapters, adapters.Slots(names, slots), held.index.used_at_s)
        return held


def _fleet(places: Places, kv_tokens: Mapping[str, int]) -> Event:
    capacities = tuple(kv_tokens.get(name, 0) * _BYTES_PER_TOKEN for name in places.replica_ids)
    return Fleet(tuple(name or None for name in places.replica_ids), capacities)
