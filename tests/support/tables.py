"""Signed tables and an agent's state directory, as a control plane and an agent would have made them."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from workloadplane.protocol.envelope import seal
from workloadplane.protocol.local import Endpoint, EndpointSet, Identity
from workloadplane.protocol.routing import (
    ApiKeyEntry,
    KeySetHeader,
    Peer,
    RateLimits,
    RevisionRoute,
    Route,
    RoutingHeader,
)
from workloadplane.protocol.statefile import write_state
from workloadplane.protocol.tables import Manifest, Table, TableKind, digest


def raw_public_key(key: Ed25519PrivateKey) -> bytes:
    """The public half, 32 bytes."""
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


@dataclass
class Signer:
    """A control plane's signing key."""

    key_id: str = "plane-1"
    private_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> dict[str, bytes]:
        return {self.key_id: raw_public_key(self.private_key)}

    def table(
        self,
        kind: TableKind,
        header: msgspec.Struct,
        entries: dict[str, msgspec.Struct],
        *,
        audience: str,
        generation: int,
        plane_epoch: int = 1,
    ) -> Table:
        """A whole table, signed for one cluster."""
        encoded = {key: msgspec.json.encode(entry) for key, entry in entries.items()}
        manifest = Manifest(
            header=msgspec.Raw(msgspec.json.encode(header)),
            entries={key: digest(entry) for key, entry in encoded.items()},
        )
        envelope = seal(
            msgspec.json.encode(manifest),
            kind=kind,
            key_id=self.key_id,
            private_key=self.private_key,
            audience=audience,
            plane_epoch=plane_epoch,
            generation=generation,
        )
        return Table(manifest=envelope, entries=encoded)

    def keyset(self, keys: list[ApiKeyEntry], *, audience: str, generation: int = 1) -> Table:
        entries: dict[str, msgspec.Struct] = {key.api_key_id: key for key in keys}
        return self.table(
            "keyset",
            KeySetHeader(signing_keys=self.public),
            entries,
            audience=audience,
            generation=generation,
        )

    def routing(
        self, header: RoutingHeader, routes: list[Route], *, audience: str, generation: int = 1
    ) -> Table:
        entries: dict[str, msgspec.Struct] = {route.deployment_id: route for route in routes}
        return self.table("routing", header, entries, audience=audience, generation=generation)


def api_key(
    secret: str,
    *,
    project_id: str = "project-1",
    api_key_id: str = "key-1",
    scopes: tuple[str, ...] = ("inference",),
    expires_at: float | None = None,
    limits: RateLimits | None = None,
    project_limits: RateLimits | None = None,
    max_priority: str = "normal",
) -> ApiKeyEntry:
    return ApiKeyEntry(
        api_key_id=api_key_id,
        sha256=hashlib.sha256(secret.encode()).digest(),
        project_id=project_id,
        scopes=scopes,
        expires_at=expires_at,
        limits=limits,
        project_limits=project_limits,
        max_priority=max_priority,
    )


def revision(
    cluster_ids: tuple[str, ...],
    *,
    revision_id: str = "chat-1",
    number: int = 1,
    weight: int = 100,
    modalities: tuple[str, ...] = (),
) -> RevisionRoute:
    return RevisionRoute(
        revision_id=revision_id,
        revision=number,
        weight=weight,
        cluster_ids=cluster_ids,
        modalities=modalities,
    )


def route(
    deployment: str = "chat",
    *,
    project_id: str = "project-1",
    residency: tuple[str, ...] = (),
    residency_ingress: str = "forward",
    posture: str = "active_active",
    scale_to_zero: bool = False,
    revisions: tuple[RevisionRoute, ...] = (),
    resume: bool = True,
    adapters: tuple[str, ...] = (),
) -> Route:
    return Route(
        deployment_id=f"{project_id}-{deployment}",
        deployment=deployment,
        project_id=project_id,
        model="tiny-llama",
        residency=residency,
        residency_ingress=residency_ingress,
        priority=0,
        posture=posture,
        concurrency_target=8,
        scale_to_zero=scale_to_zero,
        revisions=revisions,
        created_at=1_760_000_000,
        resume=resume,
        adapters=adapters,
    )


def header(
    cluster_id: str, *, region: str = "eu-west", jurisdiction: str = "eu", peers: tuple[Peer, ...] = ()
) -> RoutingHeader:
    return RoutingHeader(
        cluster_id=cluster_id,
        cluster_name=region,
        region=region,
        jurisdiction=jurisdiction,
        gateway_url="",
        peers=peers,
        soft_ttl_s=30,
        hard_ttl_s=3600,
    )


def endpoint(
    port: int,
    *,
    replica_id: str = "replica-1",
    deployment_id: str = "project-1-chat",
    revision_id: str = "chat-1",
    served_model: str = "chat",
    state: str = "ready",
    max_in_flight: int = 0,
    adapters: tuple[str, ...] = (),
    adapter_slots: int = 0,
) -> Endpoint:
    return Endpoint(
        replica_id=replica_id,
        deployment_id=deployment_id,
        revision_id=revision_id,
        revision=1,
        pool_id="pool-1",
        engine="simulator",
        host="127.0.0.1",
        port=port,
        engine_key="engine-secret",
        served_model=served_model,
        concurrency_target=8,
        state=state,
        max_in_flight=max_in_flight,
        adapters=adapters,
        adapter_slots=adapter_slots,
    )


@dataclass
class AgentState:
    """An agent's state directory, without an agent."""

    directory: Path
    cluster_id: str
    signer: Signer
    private_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def identity(self) -> Identity:
        return Identity(
            cluster_id=self.cluster_id, cluster_name=self.cluster_id, signing_keys=self.signer.public
        )

    def write(self, *, routing: Table, keyset: Table, endpoints: EndpointSet) -> None:
        """Everything that a gateway reads when the agent is dead."""
        (self.directory / "tables").mkdir(parents=True, exist_ok=True)
        write_state(self.directory / "identity.json", msgspec.json.encode(self.identity()))
        write_state(self.directory / "tables" / "routing.json", msgspec.json.encode(routing))
        write_state(self.directory / "tables" / "keyset.json", msgspec.json.encode(keyset))
        write_state(self.directory / "endpoints.json", msgspec.json.encode(endpoints))
        key = self.directory / "agent_key"
        key.touch(mode=0o600)
        key.write_bytes(
            self.private_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
