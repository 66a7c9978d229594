"""A control plane of a page: speaks the agent's wire over real HTTP, keeps everything in memory.

It stands for the other end in the agent's tests; what the real one stores and decides is tested with it.
"""

import base64
import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.support.tables import Signer
from workloadplane.protocol import WIRE_VERSION
from workloadplane.protocol.envelope import seal
from workloadplane.protocol.observed import ObservedReplica, observed_hash
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.sync import (
    ENROL_PATH,
    SYNC_PATH,
    EnrolRequest,
    EnrolResponse,
    SyncRequest,
    SyncResponse,
    enrol_signed_bytes,
    sync_signed_bytes,
)
from workloadplane.protocol.tables import Table, TableKind, TableUpdate
from workloadplane.protocol.usage import UsageRecord

CLUSTER_ID = "7d3f0a52-0000-4000-8000-00000000c1a5"
CLUSTER_NAME = "eu-west"


def signed_again(table: Table, *, generation: int, key: Ed25519PrivateKey) -> Table:
    """The same content as another generation, signed with ``key`` under the first key's id."""
    manifest = table.manifest
    envelope = seal(
        manifest.payload,
        kind=manifest.kind,
        key_id=manifest.key_id,
        private_key=key,
        audience=manifest.audience,
        plane_epoch=manifest.plane_epoch,
        generation=generation,
    )
    return Table(manifest=envelope, entries=table.entries)


class FakeControlPlane:
    """Use as a context manager. Fields are read and written by tests under ``changed`` where it matters."""

    def __init__(self, port: int = 0) -> None:
        self.signer = Signer()
        self.tokens = {"token-1"}
        self.agent_keys: list[Ed25519PublicKey] = []
        self.cluster_epoch = 0
        self.plane_epoch = 1
        self.instance_id = ""
        self.former_instances: set[str] = set()
        self.sequence = 0
        self.refusal: Refusal | None = None
        self.tables: dict[str, Table] = {}
        self.withheld_entries: set[str] = set()
        self.syncs: list[SyncRequest] = []
        #: Syncs that came while an earlier one was still held here: the agent did not wait for that one's end.
        self.broke_in = 0
        self._held = 0
        self.replicas: dict[str, ObservedReplica] = {}
        self.observed_generation = 0
        self.conditions: dict[tuple[str, str], Any] = {}
        self.usage: dict[tuple[str, int], UsageRecord] = {}
        self.usage_deliveries = 0
        self.is_deaf = False
        self.changed = threading.Condition()
        self.port = port
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "FakeControlPlane":
        self.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def open(self) -> None:
        """Listen; again on the same port after ``close``."""
        plane = self

        class Handler(_Handler):
            control_plane = plane

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def close(self) -> None:
        """Stop listening and drop kept-alive connections at their next request."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        with self.changed:
            self.changed.notify_all()

    @property
    def is_open(self) -> bool:
        return self._server is not None

    def put(self, kind: TableKind, header: msgspec.Struct, entries: dict[str, msgspec.Struct]) -> Table:
        """Make and offer the next generation of a table."""
        with self.changed:
            held = self.tables.get(kind)
            generation = held.generation + 1 if held is not None else 1
            table = self.signer.table(
                kind,
                header,
                entries,
                audience=CLUSTER_ID,
                generation=generation,
                plane_epoch=self.plane_epoch,
            )
            self.offer(kind, table)
            return table

    def offer(self, kind: str, table: Table) -> None:
        """Offer a table as it is, whatever it is."""
        with self.changed:
            self.tables[kind] = table
            self.changed.notify_all()

    def enrol(self, request: EnrolRequest) -> EnrolResponse | None:
        key = Ed25519PublicKey.from_public_bytes(request.public_key)
        key.verify(request.proof, enrol_signed_bytes(request.token))
        with self.changed:
            if request.token not in self.tokens:
                return None
            self.tokens.discard(request.token)
            self.agent_keys.append(key)
            return EnrolResponse(
                cluster_id=CLUSTER_ID,
                cluster_name=CLUSTER_NAME,
                cluster_epoch=self.cluster_epoch,
                plane_epoch=self.plane_epoch,
                signing_keys=self.signer.public,
            )

    def sync(self, request: SyncRequest) -> SyncResponse:
        with self.changed:
            self.syncs.append(request)
            self.broke_in += self._held > 0
            refusal = self._judged(request)
            if refusal is None:
                self._store(request)
                deadline = time.monotonic() + request.wait_s
                self._held += 1
                while self.is_open and not self._news(request) and time.monotonic() < deadline:
                    self.changed.wait(deadline - time.monotonic())
                self._held -= 1
            full_wanted = request.observed is not None and request.observed.state_hash != observed_hash(
                self.replicas
            )
            return SyncResponse(
                wire_version=WIRE_VERSION,
                plane_epoch=self.plane_epoch,
                cluster_epoch=self.cluster_epoch,
                tables={} if refusal is not None else self._news(request),
                observed_acknowledged=0 if self.is_deaf else self.observed_generation,
                observed_full_wanted=full_wanted,
                usage_acknowledged={} if self.is_deaf else self._usage_acknowledged(),
                windows_acknowledged={},
                refusal=refusal,
            )

    def _judged(self, request: SyncRequest) -> Refusal | None:
        if self.refusal is not None:
            return self.refusal
        if request.instance_id in self.former_instances:
            return Refusal(
                rule="superseded",
                subject="cluster_epoch",
                value=str(request.cluster_epoch),
                remedy=f"this cluster is held at epoch {self.cluster_epoch} by another instance",
            )
        if request.instance_id != self.instance_id:
            self.former_instances.add(self.instance_id)
            self.instance_id, self.sequence = request.instance_id, 0
            self.cluster_epoch += 1
        assert request.sequence > self.sequence, "a sequence was used twice"
        self.sequence = request.sequence
        return None

    def _store(self, request: SyncRequest) -> None:
        delta = request.observed
        if delta is not None:
            if delta.full:
                self.replicas.clear()
            self.replicas.update({replica.replica_id: replica for replica in delta.replicas})
            for gone in delta.gone:
                self.replicas.pop(gone, None)
            self.conditions = {(c.assignment_id, c.type): c for c in delta.conditions}
            self.observed_generation = delta.observed_generation
        for record in request.usage:
            self.usage_deliveries += 1
            self.usage[record.gateway_instance, record.sequence] = record

    def _news(self, request: SyncRequest) -> dict[str, TableUpdate]:
        return {
            kind: TableUpdate(
                manifest=table.manifest,
                entries={k: v for k, v in table.entries.items() if k not in self.withheld_entries},
            )
            for kind, table in self.tables.items()
            if request.held.get(kind, 0) != table.generation
        }

    def _usage_acknowledged(self) -> dict[str, int]:
        stored: dict[str, int] = {}
        for instance, sequence in sorted(self.usage):
            if sequence == stored.get(instance, 0) + 1:
                stored[instance] = sequence
        return stored


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Agents that are killed break connections; that is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    control_plane: FakeControlPlane

    def do_POST(self) -> None:
        plane = self.control_plane
        if not plane.is_open:
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == ENROL_PATH:
            answer = plane.enrol(msgspec.json.decode(body, type=EnrolRequest))
            self._answer(200 if answer is not None else 403, answer)
        elif self.path == SYNC_PATH and self._is_signed(body):
            request = msgspec.json.decode(body, type=SyncRequest)
            response = plane.sync(request)
            if plane.is_open:
                self._answer(200, response)
            self.close_connection = not plane.is_open
        else:
            self._answer(401, None)

    def _is_signed(self, body: bytes) -> bool:
        signature = base64.b64decode(self.headers["x-meridian-signature"])
        for key in self.control_plane.agent_keys:
            with contextlib.suppress(InvalidSignature):
                key.verify(signature, sync_signed_bytes(body))
                return True
        return False

    def _answer(self, status: int, value: msgspec.Struct | None) -> None:
        body = msgspec.json.encode(value) if value is not None else b'{"title": "refused"}'
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
