"""Who judges: by what clients saw, what gateways logged of each request, and what the planes tell of themselves.

It shares no rule with the code that it judges. Where a replica is, it knows from the machine that its process runs on;
what a fault may cost, from the fault.
"""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.embedded.parts import CLUSTERS
from tests.faults.matrix.clients import EDGE, Asked, Attempt
from tests.faults.matrix.world import ACTIVE_PASSIVE, EU, EU_ONLY, World

_MOVES = ("StandbyPromoted", "ServingMoved")
#: How a gateway refuses what only one region may serve, while none may: counted apart, as it must not be served.
_FENCED = ("lease", "handing_over")


@dataclass
class Findings:
    """What must not happen, each with what it was seen by."""

    lost: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    two_serving: list[str] = field(default_factory=list)
    backwards: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)

    def all(self) -> list[str]:
        return [one for each in vars(self).values() for one in each]

    def add(self, other: "Findings") -> None:
        for name, found in vars(other).items():
            getattr(self, name).extend(found)


@dataclass(frozen=True)
class Allowed:
    """What a cell's faults may cost. ``doors``: gateways whose connections may end; all seconds monotonic."""

    may_refuse: frozenset[str] = frozenset()
    doors: frozenset[str] = frozenset()


@dataclass
class Figures:
    """What a cell cost its clients.

    last_failed_s: from the fault to the beginning of the last first try that failed, of those that could be served
    failures:      each of these in words
    fenced:        first tries of the pair that were refused because no region may serve it at this moment
    """

    asked: int = 0
    failed_first: int = 0
    last_failed_s: float = 0.0
    nowhere: int = 0
    fenced: int = 0
    resumed: int = 0
    error_events: int = 0
    cut: int = 0
    failures: list[str] = field(default_factory=list)


def judge_cell(asked: Iterable[Asked], allowed: Allowed, began_s: float) -> tuple[Figures, Findings]:
    """All requests that began in a cell, once they have ended."""
    figures, findings = Figures(), Findings()
    for one in asked:
        figures.asked += 1
        first, last = one.attempts[0], one.last
        may_refuse = one.deployment in allowed.may_refuse
        figures.resumed += any(each.resumed for each in one.attempts)
        if first.code in _FENCED and one.deployment == ACTIVE_PASSIVE:
            figures.fenced += 1
        elif first.failed and not (may_refuse and first.end in ("refused", "broken")):
            figures.failed_first += 1
            figures.last_failed_s = max(figures.last_failed_s, first.began_s - began_s)
            figures.failures.append(
                f"{one.deployment} at {first.door}, begun {first.began_s - began_s:.2f} s after, over "
                f"{first.ended_s - began_s:.2f} s after: {first.end} {first.status} {first.code}"
            )
        if last.end == "error event":
            figures.error_events += 1
        elif last.end == "cut":
            if _door_may_end(last, allowed):
                figures.cut += 1
            else:
                findings.silent.append(f"{last.request_id} of {one.deployment} at {last.door} just ended")
        elif last.failed:
            if may_refuse:
                figures.nowhere += 1
            else:
                said = ", ".join(f"{each.end} {each.status} {each.code}" for each in one.attempts)
                findings.lost.append(f"{last.request_id} of {one.deployment} at {last.door}: {said}")
    return figures, findings


def _door_may_end(one: Attempt, allowed: Allowed) -> bool:
    """The edge has eu-west first: to another gateway it goes only while that one is away."""
    if one.door == EDGE:
        return EU in allowed.doors
    return one.door in allowed.doors


def outside_residency(asked: Iterable[Asked], clusters_of: dict[str, str], inside: str = EU) -> list[str]:
    """Of a deployment that may be served in the EU alone, by the machine of the replica that answered."""
    return [
        f"{each.request_id} was served in {clusters_of[each.replica_id]}"
        for one in asked
        if one.deployment == EU_ONLY
        for each in one.attempts
        if clusters_of.get(each.replica_id, inside) != inside
    ]


def turns(asked: Iterable[Asked], clusters_of: dict[str, str]) -> list[tuple[float, str]]:
    """How often, at least, serving the pair went from one to another: (when, to whom), the first to begin with.

    A request was answered by whom it names at some moment between its beginning and its first byte. Only what ended
    before another one began is certainly before it; so this is the longest chain of such, one owner after another.
    """
    answered = sorted(
        (each.first_s, each.began_s, clusters_of[each.replica_id])
        for one in asked
        if one.deployment == ACTIVE_PASSIVE
        for each in one.attempts
        if each.status == 200 and each.replica_id in clusters_of
    )
    chain: list[tuple[float, str]] = []
    for first_s, began_s, cluster in answered:
        if not chain or (cluster != chain[-1][1] and began_s > chain[-1][0]):
            chain.append((first_s, cluster))
    return chain


def two_serving(chain: Sequence[tuple[float, str]], moves: int) -> list[str]:
    """More turns than the control plane says it has moved who serves."""
    turned = max(0, len(chain) - 1)
    if turned <= moves:
        return []
    return [
        f"serving the pair went {turned} times from one to another, the control plane moved it {moves} times"
    ]


@dataclass
class Recorder:
    """Watches a running world. ``seen``: what only rises, by name, as it was last."""

    world: World
    findings: Findings = field(default_factory=Findings)
    seen: dict[str, int] = field(default_factory=dict)
    moves: dict[int, str] = field(default_factory=dict)
    logged: int = 0
    _offsets: dict[Path, int] = field(default_factory=dict)
    _asked_of: set[str] = field(default_factory=set)

    def note(self, name: str, value: int) -> None:
        """Something that only rises. 0: nobody holds any."""
        before = self.seen.get(name, 0)
        if 0 < value < before:
            self.findings.backwards.append(f"{name}: {value} after {before}")
        self.seen[name] = max(value, before)

    async def watch(self) -> None:
        """Generations that gateways have in force, plans and epochs; for ever."""
        for look in range(1_000_000_000):
            await asyncio.gather(*(self._look_at_gateway(name) for name in CLUSTERS))
            if look % 8 == 0:
                await asyncio.to_thread(self._look_at_plane)
            await asyncio.sleep(0.25)

    async def _look_at_gateway(self, cluster: str) -> None:
        port = self.world.parts_world.ports[f"gateway-{cluster}"]
        head = b"GET /.well-known/meridian/regions HTTP/1.1\r\nhost: meridian\r\nconnection: close\r\n\r\n"
        try:
            async with asyncio.timeout(1.0):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(head)
                said = await reader.read()
                writer.close()
            told = json.loads(said.partition(b"\r\n\r\n")[2])
        except (OSError, TimeoutError, ValueError):
            return
        self.note(f"routing generation in force in {cluster}", int(told.get("generation", 0)))

    def _look_at_plane(self) -> None:
        plan = self.world.api("/plans/latest")
        if plan is None:
            return
        self.note("plan generation", int(plan["plan_generation"]))
        for cluster in CLUSTERS:
            told = self.world.api(f"/clusters/{cluster}/agent") or {}
            self.note(f"cluster epoch of {cluster}", int(told.get("cluster_epoch", 0)))
            for kind, generation in (told.get("newest_generations") or {}).items():
                self.note(f"newest {kind} of {cluster}", int(generation))
        events = self.world.api("/events?limit=200") or {"items": []}
        for event in events["items"]:
            if event["reason"] in _MOVES:
                self.moves[int(event["id"])] = event["message"]

    def read_access_logs(self) -> None:
        """What gateways have logged since the last time: of each request, where it was served."""
        for cluster in CLUSTERS:
            log = self.world.layout.log(f"gateway-{cluster}")
            for line in self._new_lines(log):
                if not line.startswith(b'{"time":'):
                    continue
                try:
                    told: dict[str, Any] = json.loads(line)
                except ValueError:
                    continue
                self.logged += 1
                served = told.get("served_region")
                if told.get("deployment") == EU_ONLY and served not in (None, "eu-west-1"):
                    self.findings.outside.append(
                        f"{cluster} logged {told.get('request_id')} as served in {served}"
                    )

    def _new_lines(self, log: Path) -> list[bytes]:
        try:
            content = log.read_bytes()
        except OSError:
            return []
        before = self._offsets.get(log, 0)
        older = b""
        if before > len(content):  # it was put away as .1 meanwhile
            older, before = log.with_name(f"{log.name}.1").read_bytes()[before:], 0
        whole = content[before:].rfind(b"\n") + 1
        self._offsets[log] = before + whole
        return (older + content[before : before + whole]).splitlines()
