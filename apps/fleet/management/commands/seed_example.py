"""``manage.py seed_example``: fill the database with the example world. Run again, it adds only what is missing."""

import hashlib
import json
import os
import secrets
from argparse import ArgumentParser
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from apps.accounts import selectors as accounts
from apps.accounts import services as accounts_services
from apps.accounts.models import Role
from apps.agents.services import enrolment_token_create
from apps.api.actors import Actor, system_actor
from apps.api.money import micro_usd
from apps.api.problems import Problem
from apps.catalog import selectors as catalog
from apps.catalog import services as catalog_services
from apps.catalog.models import ModelVersion
from apps.fleet import selectors as fleet
from apps.fleet import services as fleet_services
from apps.fleet.example_world import (
    CLUSTERS,
    COLD_START_S,
    EGRESS_USD_PER_GIB,
    GPU_TYPES,
    INSTANCE_TYPES,
    LATENCIES_MS,
    REQUESTS_PER_S,
    TOKENS_PER_REQUEST,
    ExampleCluster,
)
from apps.fleet.models import FailureDomainKind, GpuPool, Procurement

ORGANIZATION, PROJECT, ADMIN, API_KEY = "example", "default", "admin", "example"
MODEL, CONTEXT_TOKENS = "tiny-llama", 512
VLLM_VERSION, SIMULATOR_VERSION = "0.32.0", "0.1.0"
KEY_SCOPES = ("inference", "read", "deploy", "operate")


class Command(BaseCommand):
    """Writes ``{admin_user, admin_password, api_key, clusters: {name: {region, enrolment_token}}}``, mode 0600.

    What was shown once and is stored nowhere (password, key) is kept from an earlier output file; a lost key is revoked
    and replaced, a lost password stays lost (null). Clusters that have enrolled get no new token (null).
    """

    help = (
        "Fill the database with the example world: three regions on three providers, one model, one API key."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", required=True, type=Path, help="JSON file to write (mode 0600)")
        parser.add_argument("--model-path", required=True, type=Path, help="folder of the example model")
        parser.add_argument("--model-digest", required=True, help="sha256:<hex> of that folder")

    def handle(self, *, output: Path, model_path: Path, model_digest: str, **_: Any) -> None:
        earlier = _earlier(output)
        try:
            with transaction.atomic():
                actor, admin_password = _tenant(earlier)
                _facts(actor)
                clusters = {cluster.name: _cluster(actor, cluster) for cluster in CLUSTERS}
                _catalog(actor, model_path, model_digest)
                api_key = _api_key(actor, earlier)
        except Problem as problem:
            raise CommandError(problem.detail) from problem
        seeded = {
            "admin_user": ADMIN,
            "admin_password": admin_password,
            "api_key": api_key,
            "clusters": clusters,
        }
        _write_private(output, json.dumps(seeded, indent=2) + "\n")


def _earlier(output: Path) -> dict[str, Any]:
    try:
        earlier = json.loads(output.read_text())
    except (OSError, ValueError):
        return {}
    return earlier if isinstance(earlier, dict) else {}


def _tenant(earlier: dict[str, Any]) -> tuple[Actor, str | None]:
    """Organization, project and administrator; the actor who does the rest; the password if it is known."""
    founder = system_actor("seed_example")
    organization = accounts.organizations(actor=founder).filter(name=ORGANIZATION).first()
    if organization is None:
        organization = accounts_services.organization_create(actor=founder, name=ORGANIZATION)
    founder = system_actor("seed_example", organization_id=organization.pk)
    project = accounts.projects(actor=founder).filter(name=PROJECT, organization=organization).first()
    if project is None:
        project = accounts_services.project_create(
            actor=founder, organization_id=organization.pk, name=PROJECT
        )
    password: str | None = earlier.get("admin_password")
    if accounts.user_by_name(ADMIN) is None:
        _, password = accounts_services.user_create(actor=founder, username=ADMIN, is_superuser=True)
        accounts_services.member_add(
            actor=founder, organization_id=organization.pk, username=ADMIN, role=Role.OWNER
        )
    return system_actor("seed_example", organization_id=organization.pk, project_id=project.pk), password


def _facts(actor: Actor) -> None:
    known = set(fleet.providers().values_list("name", flat=True))
    for name in ("aws", "gcp", "azure"):
        if name not in known:
            fleet_services.provider_create(actor=actor, name=name, kind=name)
    known = set(fleet.gpu_types().values_list("name", flat=True))
    for name, vendor, memory_gib, precisions in GPU_TYPES:
        if name not in known:
            fleet_services.gpu_type_create(
                actor=actor, name=name, vendor=vendor, memory_gib=memory_gib, precisions=precisions
            )
    known_types = set(fleet.instance_types().values_list("provider__name", "name"))
    for provider, name, gpu_type, gpus in INSTANCE_TYPES:
        if (provider, name) not in known_types:
            fleet_services.instance_type_create(
                actor=actor, name=name, provider=provider, gpu_type=gpu_type, gpus=gpus
            )
    _places(actor)


def _places(actor: Actor) -> None:
    regions = set(fleet.regions().values_list("name", flat=True))
    zones = set(fleet.failure_domains(kind=FailureDomainKind.ZONE).values_list("name", flat=True))
    for example in CLUSTERS:
        if example.region not in regions:
            fleet_services.region_create(
                actor=actor,
                name=example.region,
                provider=example.provider,
                jurisdiction=example.jurisdiction,
                latitude=example.latitude,
                longitude=example.longitude,
            )
        if example.zone not in zones:
            fleet_services.failure_domain_create(actor=actor, kind=FailureDomainKind.ZONE, name=example.zone)
    pairs = set(fleet.latencies().values_list("origin__name", "target__name"))
    for origin, target, rtt_ms in LATENCIES_MS:
        for pair in ((origin, target), (target, origin)):
            if pair not in pairs:
                fleet_services.latency_set(actor=actor, origin=pair[0], target=pair[1], rtt_ms=rtt_ms)
    _network_prices(actor)


def _network_prices(actor: Actor) -> None:
    """What a region sends out costs the same wherever it goes."""
    known = set(fleet.network_prices().values_list("origin__name", "target__name"))
    for target, price in EGRESS_USD_PER_GIB.items():
        for origin in EGRESS_USD_PER_GIB.keys() - {target}:
            if (origin, target) not in known:
                fleet_services.network_price_set(
                    actor=actor, origin=origin, target=target, micro_usd_per_gib=micro_usd(price)
                )


def _cluster(actor: Actor, example: ExampleCluster) -> dict[str, str | None]:
    cluster = fleet.clusters(actor=actor).filter(name=example.name).first()
    if cluster is None:
        fleet_services.cluster_create(
            actor=actor,
            organization_id=_organization(actor),
            name=example.name,
            region=example.region,
            failure_domains=[f"zone/{example.zone}"],
        )
        cluster = fleet.cluster_get(actor=actor, name=example.name)
    known = set(fleet.pools(actor=actor, cluster=example.name).values_list("name", flat=True))
    for pool in example.pools:
        if pool.name in known:
            continue
        made = fleet_services.pool_create(
            actor=actor,
            cluster=cluster,
            name=pool.name,
            instance_type=pool.instance_type,
            procurement=pool.procurement,
            capacity_instances=pool.capacity_instances,
            price_micro_usd_per_h=micro_usd(pool.price_usd_per_h),
            hazard_per_h=pool.hazard_per_h,
            obtainability=pool.obtainability,
        )
        if pool.procurement == Procurement.RESERVED:
            _reserve(actor, made, pool.capacity_instances, micro_usd(pool.price_usd_per_h))
    token = None
    if not fleet.cluster_is_enrolled(cluster=cluster):
        _, token = enrolment_token_create(actor=actor, cluster=cluster)
    return {"region": example.region, "enrolment_token": token}


def _reserve(actor: Actor, pool: GpuPool, instances: int, price_micro_usd_per_h: int) -> None:
    """A year's commitment for all of a reserved pool."""
    now = timezone.now()
    fleet_services.reservation_create(
        actor=actor,
        pool=pool,
        instances=instances,
        price_micro_usd_per_h=price_micro_usd_per_h,
        starts_at=now,
        ends_at=now + timedelta(days=365),
    )


def _catalog(actor: Actor, model_path: Path, model_digest: str) -> None:
    model = catalog.models(actor=actor, name=MODEL).first()
    if model is None:
        model = catalog_services.model_create(actor=actor, project_id=_project(actor), name=MODEL)
    if not catalog.model_versions(model=model).filter(digest=model_digest).exists():
        weights = sum(file.stat().st_size for file in model_path.glob("*.safetensors"))
        if weights == 0:
            raise CommandError(
                f"--model-path: {model_path} has no *.safetensors; give the folder of the example model"
            )
        version = catalog_services.model_version_create(
            actor=actor,
            model=model,
            version=str(catalog.model_versions(model=model).count() + 1),
            digest=model_digest,
            source_uri=model_path.resolve().as_uri(),
            precision="bf16",
            size_bytes=weights,
            max_context_tokens=CONTEXT_TOKENS,
        )
        _profiles(actor, version)
    _engine_images(actor)


def _profiles(actor: Actor, version: ModelVersion) -> None:
    """For every machine, by its GPU: enough for placement to reckon with."""
    for instance_type in fleet.instance_types():
        catalog_services.profile_create(
            actor=actor,
            model_version=version,
            instance_type=instance_type,
            requests_per_s=REQUESTS_PER_S[instance_type.gpu_type.name],
            tokens_per_s=TOKENS_PER_REQUEST * REQUESTS_PER_S[instance_type.gpu_type.name],
            concurrency=8,
            gpu_procurement_s=COLD_START_S["gpu_procurement"],
            image_pull_s=COLD_START_S["image_pull"],
            weight_load_s=COLD_START_S["weight_load"],
            engine_start_s=COLD_START_S["engine_start"],
        )


def _engine_images(actor: Actor) -> None:
    """On one machine an engine is a pinned environment instead of an image: its digest is that of its pins."""
    pins = settings.BASE_DIR / "infra" / "engines" / "vllm" / "requirements.lock"
    images: tuple[tuple[str, str, bytes, dict[str, str]], ...] = (
        ("vllm", VLLM_VERSION, pins.read_bytes(), {"max_num_seqs": "8", "cpu_kv_cache_gib": "1"}),
        ("simulator", SIMULATOR_VERSION, b"meridian simulator " + SIMULATOR_VERSION.encode(), {}),
    )
    for engine, version, pinned, arguments in images:
        digest = f"sha256:{hashlib.sha256(pinned).hexdigest()}"
        if not catalog.engine_images(engine=engine).filter(digest=digest).exists():
            catalog_services.engine_image_create(
                actor=actor, engine=engine, version=version, digest=digest, arguments=arguments
            )


def _api_key(actor: Actor, earlier: dict[str, Any]) -> str:
    """The key of an earlier run if it still lives, else a new one in its place."""
    known = earlier.get("api_key")
    row = accounts.api_key_by_secret(known) if isinstance(known, str) else None
    if row is not None and row.revoked_at is None:
        return str(known)
    for lost in accounts.api_keys(actor=actor, revoked=False).filter(name=API_KEY):
        accounts_services.api_key_revoke(actor=actor, api_key=lost)
    _, key = accounts_services.api_key_create(
        actor=actor, project_id=_project(actor), name=API_KEY, scopes=KEY_SCOPES
    )
    return key


def _organization(actor: Actor) -> UUID:
    return accounts.organization_wanted(actor)


def _project(actor: Actor) -> UUID:
    return accounts.project_wanted(actor)


def _write_private(path: Path, text: str) -> None:
    """In one step, readable by the owner alone from its first byte on."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
