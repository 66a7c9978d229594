"""While placement moves what runs, nobody who asks notices, and what was promised is there at every moment."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest

from tests.e2e.system import Stream, System
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

NAME = "mover"
MIN_REPLICAS = 2
STREAM_TOKENS = 300


@dataclass
class Witness:
    """Asks through every region's gateway without a pause, streams one answer after the other, and looks whether
    after the loss of any one region as many would be ready as were promised."""

    system: System
    answers: int = 0
    errors: list[str] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    broken_promises: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> list[threading.Thread]:
        work: list[Callable[[], None]] = [self._stream, self._look]
        work += [partial(self._ask, region) for region in self.system.endpoints()["gateways"]]
        threads = [threading.Thread(target=each, daemon=True) for each in work]
        for thread in threads:
            thread.start()
        return threads

    def end(self) -> None:
        self._over.set()

    def _ask(self, region: str) -> None:
        client = self.system.openai(region)
        while not self._over.wait(0.05):
            try:
                answer = client.chat.completions.create(
                    model=NAME, messages=[{"role": "user", "content": "Hello"}], max_tokens=4
                )
                assert answer.usage and answer.usage.completion_tokens > 0
                self.answers += 1
            except Exception as error:
                self.errors.append(f"{region}: {type(error).__name__}: {error}")

    def _stream(self) -> None:
        while not self._over.is_set():
            self.streams.append(Stream(self.system.openai(), NAME, max_tokens=STREAM_TOKENS))
            self.streams[-1].result()

    def _look(self) -> None:
        while not self._over.wait(0.2):
            try:
                ready = Counter(r["cluster"] for r in self.system.replicas(NAME) if r["state"] == "ready")
            except httpx.TransportError:
                continue
            left = sum(ready.values()) - max(ready.values(), default=0)
            if left < MIN_REPLICAS:
                self.broken_promises.append(f"{left} would be left of {dict(ready)}")


@contextmanager
def witnessed(system: System, *, promised: bool = True) -> Iterator[Witness]:
    """Somebody asks all the while; afterwards none of it may have failed.

    promised: what was promised must have been there at every moment; where capacity is taken away it can't be
    """
    witness = Witness(system)
    threads = witness.begin()
    try:
        eventually(lambda: witness.answers > 10 and witness.streams[0].started(), what="clients are answered")
        yield witness
    finally:
        witness.end()
        for thread in threads:
            thread.join(120)
    assert witness.errors == []
    assert not promised or witness.broken_promises == []
    assert [stream.error for stream in witness.streams] == [None] * len(witness.streams)
    assert {stream.usage_tokens for stream in witness.streams} == {STREAM_TOKENS}


@pytest.fixture
def mover(system: System) -> Iterator[str]:
    """A deployment that is to survive the loss of any one region, with all that it was promised ready."""
    system.deploy(
        name=NAME,
        model="tiny-llama",
        engine="simulator",
        survivability="region",
        autoscaling={"min_replicas": MIN_REPLICAS, "max_replicas": 4},
    )
    eventually(lambda: _is_settled(system), within_s=120, what="all that was promised is ready")
    yield NAME
    system.delete(NAME, within_s=120)


def _is_settled(system: System) -> bool:
    said = {c["type"]: c for c in system.deployment(NAME)["conditions"]}
    return bool(said["Placed"]["status"] and not said["Progressing"]["status"] and said["Ready"]["status"])


def _pools(system: System) -> dict[str, dict[str, Any]]:
    """pool id -> pool."""
    with system.api() as client:
        return {pool["id"]: pool for pool in client.get("/pools", params={"limit": 100}).json()["items"]}


def _change(system: System, pool_id: str, **changes: Any) -> None:
    with system.api() as client:
        answer = client.patch(f"/pools/{pool_id}", json=changes)
        assert answer.status_code == 200, answer.text


def _used(system: System) -> set[tuple[str, str]]:
    """(cluster, pool) of the replicas that are there."""
    return {(replica["cluster"], replica["pool"]) for replica in system.replicas(NAME)}


def _certificate(system: System) -> dict[str, Any]:
    with system.api() as client:
        plan = client.get("/plans/latest", params={"deployment": NAME}).json()
    certificate: dict[str, Any] = plan["certificate"]
    return certificate


def test_a_drained_pool_is_left_without_anybody_noticing(system: System, mover: str) -> None:
    """What ran there is elsewhere before it stops, and the new plan keeps its promises. A whole region may not go, for
    what this system started with has no spare replica to survive the next loss: it is refused, and nothing moves."""
    slow = {replica["cluster"] for replica in system.replicas("chat") if replica["engine"] == "vllm"}
    cluster, name = next(place for place in sorted(_used(system)) if place[0] not in slow)
    pool = f"{cluster}/{name}"
    try:
        with witnessed(system) as witness:
            before = witness.answers
            drained = system.command("drain", "pool", pool, "--wait", "--timeout", "180")
            assert (drained.returncode, drained.stderr) == (0, "")
            assert f"pool {pool} is empty" in drained.stdout
            assert (cluster, name) not in _used(system)
            eventually(lambda: _is_settled(system), what="all that was promised is ready")
            refused = system.command("drain", "cluster", cluster)
            assert refused.returncode == 1
            assert "refused: would leave chat under N+1 in jurisdictions eu, jp, us" in refused.stderr
            eventually(lambda: witness.answers > before + 20, what="clients are answered after the move too")
        assert _certificate(system)["holds"], _certificate(system)
    finally:
        lifted = system.command("undrain", "pool", pool)
        assert lifted.returncode == 0, lifted.stderr


def test_a_dearer_pool_is_left_without_anybody_noticing(system: System, mover: str) -> None:
    """Its price rises a hundredfold: what moving saves is worth it, and the move is as quiet."""
    priced = sorted(_used(system))[0]
    cluster, name = priced
    pool = next(p for p in _pools(system).values() if (p["cluster"], p["name"]) == priced)
    reserved = [r for r in _reservations(system) if r["pool"] == pool["id"]]
    try:
        with witnessed(system) as witness:
            before = witness.answers
            for reservation in reserved:  # what is paid for anyway is left for no price
                _end(system, reservation)
            _change(system, pool["id"], price_usd_per_h=f"{100 * float(pool['price_usd_per_h']):.2f}")
            eventually(
                lambda: priced not in _used(system) and _is_settled(system),
                within_s=180,
                what=f"{name} of {cluster} is empty",
            )
            eventually(lambda: witness.answers > before + 20, what="clients are answered after the move too")
        assert _certificate(system)["holds"], _certificate(system)
    finally:
        _change(system, pool["id"], price_usd_per_h=pool["price_usd_per_h"])
        for reservation in reserved:
            _renew(system, reservation)


def test_a_pool_that_is_taken_back_is_left_in_time(system: System, mover: str) -> None:
    """A notice of two minutes at one region's agent: nothing fails, and all is ready elsewhere long before it is gone.
    Withdrawn, the pool may be used again."""
    slow = {replica["cluster"] for replica in system.replicas("chat") if replica["engine"] == "vllm"}
    cluster, name = next(place for place in sorted(_used(system)) if place[0] not in slow)
    file = system.state / "planes" / cluster / "agent" / "notices.json"
    deadline_at = time.time() + 120
    try:
        with witnessed(system, promised=False) as witness:
            file.write_text(json.dumps({"notices": [{"pool": name, "deadline_at": deadline_at}]}))
            eventually(
                lambda: _drains(system, f"{cluster}/{name}") == ["drained"], within_s=110, what="empty"
            )
            eventually(lambda: _is_settled(system), within_s=110, what="all that was promised is ready")
            left_s = deadline_at - time.time()
            sys.stdout.write(f"\nempty and replaced {120 - left_s:.1f} s after the notice\n")
            assert left_s > 0
            before = witness.answers
            eventually(lambda: witness.answers > before + 20, what="clients are answered after the move too")
        assert (cluster, name) not in _used(system)
    finally:
        file.unlink(missing_ok=True)
    eventually(lambda: _drains(system, f"{cluster}/{name}") == [], what="the pool is open again")


def _drains(system: System, pool: str) -> list[str]:
    """States of those of a pool that have not ended."""
    with system.api() as client:
        found = client.get("/drains", params={"kind": "pool", "name": pool, "ended": "false"}).json()
    return [drain["state"] for drain in found["items"]]


def _reservations(system: System) -> list[dict[str, Any]]:
    with system.api() as client:
        items: list[dict[str, Any]] = client.get("/reservations", params={"limit": 100}).json()["items"]
        return items


def _end(system: System, reservation: dict[str, Any]) -> None:
    with system.api() as client:
        answer = client.delete(f"/reservations/{reservation['id']}")
        assert answer.status_code == 204, answer.text


def _renew(system: System, reservation: dict[str, Any]) -> None:
    names = ("pool", "instances", "price_usd_per_h", "starts_at", "ends_at")
    with system.api() as client:
        answer = client.post("/reservations", json={name: reservation[name] for name in names})
        assert answer.status_code == 201, answer.text
