"""The parts of the one-machine set-up: which programs, with which arguments, on which ports.

This is the place to look up how the set-up starts a program; `bring_up` says in which order.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from infra.embedded import credentials, postgres, valkey
from infra.embedded.layout import CHECKOUT, Layout
from infra.embedded.part import PartSpec
from infra.embedded.plain_path import plain_path
from infra.embedded.ports import HOST

VLLM = "vllm"
SIMULATOR = "simulator"

# Nearest first, as the edge sees it. The first one carries the real vLLM: two cores carry one.
CLUSTERS = ("eu-west", "us-east", "ap-northeast")

NAMES = frozenset(("postgres", "valkey", "web", "worker", "beat", "edge")) | {
    f"{part}-{cluster}" for part in ("agent", "gateway") for cluster in CLUSTERS
}


@dataclass(frozen=True)
class World:
    """One state folder with its ports and the engine that was asked for (`vllm` or `simulator`)."""

    layout: Layout
    ports: dict[str, int]
    engine: str

    def url(self, part: str) -> str:
        """A part's address, without a path."""
        return f"http://{HOST}:{self.ports[part]}"

    def gateway_url(self, cluster: str) -> str:
        """A cluster's gateway, without a path."""
        return self.url(f"gateway-{cluster}")

    def cluster_at(self, gateway_url: str) -> str:
        """The cluster whose gateway has this address."""
        return next(cluster for cluster in CLUSTERS if self.gateway_url(cluster) == gateway_url)

    def engine_in(self, cluster: str) -> str:
        """Which engine serves the example in this cluster."""
        return VLLM if self.engine == VLLM and cluster == CLUSTERS[0] else SIMULATOR

    def token_file(self, cluster: str) -> Path:
        """Where the cluster's one-time enrolment token waits for its agent."""
        return self.layout.plane(cluster) / "enrolment-token"

    def control_environment(self) -> dict[str, str]:
        """What every process of the control plane is told."""
        return {
            "DJANGO_SETTINGS_MODULE": "controlplane.settings.embedded",
            "DATABASE_URL": postgres.server(self.layout, self.ports["postgres"]).url(),
            "VALKEY_URL": valkey.server(self.layout, self.ports["valkey"]).url(),
            "MERIDIAN_SECRET_KEY_FILE": str(credentials.secret_key_file(self.layout)),
            "MERIDIAN_SIGNING_KEY_FILE": str(credentials.signing_key_file(self.layout)),
            "MERIDIAN_ALLOWED_HOSTS": f"{HOST},localhost",
            "MERIDIAN_CSRF_TRUSTED_ORIGINS": self.url("web"),
            "MERIDIAN_ENDPOINT_URL": self.url("edge"),
            "PYTHONUNBUFFERED": "1",
        }


def web(world: World) -> PartSpec:
    """Console and API."""
    return _control(
        world,
        "web",
        f"-m granian --interface asgi --workers 1 --no-ws --host {HOST} --port {world.ports['web']} "
        "controlplane.asgi:application",
        probe=world.url("web") + "/readyz",
    )


def worker(world: World) -> PartSpec:
    """Celery's worker; solves have their own queues, and here the same worker takes all."""
    return _control(
        world,
        "worker",
        "-m celery -A controlplane worker -Q default,solve,full_solve --concurrency 2 --loglevel INFO "
        "--without-gossip --without-mingle",
    )


def beat(world: World) -> PartSpec:
    """Celery's clock."""
    part = _control(world, "beat", "-m celery -A controlplane beat --loglevel INFO --pidfile=")
    return replace(part, argv=(*part.argv, "-s", str(world.layout.control / "beat-schedule")))


def agent(world: World, cluster: str) -> PartSpec:
    """One cluster's agent."""
    plane = world.layout.plane(cluster)
    command = ["-m", "workloadplane.agent"]
    command += ["--state-dir", str(plane / "agent"), "--gateway-state-dir", str(plane / "gateway")]
    command += ["--control-url", world.url("web"), "--gateway-url", world.url(f"gateway-{cluster}")]
    command += ["--enrolment-token-file", str(world.token_file(cluster))]
    command += ["--engines-dir", str(plain_path(world.layout, world.layout.engines))]
    command += ["--cache-dir", str(plain_path(world.layout, world.layout.cache))]
    if world.engine_in(cluster) != VLLM:
        command += ["--substitute", f"{VLLM}={SIMULATOR}"]
    return _plain(f"agent-{cluster}", command)


def gateway(world: World, cluster: str) -> PartSpec:
    """One cluster's gateway; SIGTERM makes it drain."""
    plane = world.layout.plane(cluster)
    part = f"gateway-{cluster}"
    command = ["-m", "workloadplane.gateway"]
    command += ["--agent-state-dir", str(plane / "agent"), "--state-dir", str(plane / "gateway")]
    command += ["--host", HOST, "--port", str(world.ports[part])]
    spec = _plain(part, command, stop_grace_s=30.0, probe=world.url(part) + "/livez")
    return replace(spec, successor_argv=("--take-over",))


def edge(world: World) -> PartSpec:
    """The one address in front of the gateways."""
    command = ["-m", "infra.embedded.edge", "--listen", f"{HOST}:{world.ports['edge']}"]
    for cluster in CLUSTERS:
        command += ["--backend", f"{HOST}:{world.ports[f'gateway-{cluster}']}"]
    return _plain("edge", command, stop_grace_s=25.0, probe=f"tcp://{HOST}:{world.ports['edge']}")


def manage(*arguments: str) -> list[str]:
    """A command line of the control plane's own administration."""
    return [sys.executable, "manage.py", *arguments]


def stop_replicas(layout: Layout, cluster: str) -> list[str]:
    """The command line that ends a cluster's replicas once its agent is gone."""
    state_dir = layout.plane(cluster) / "agent"
    return [sys.executable, "-m", "workloadplane.agent", "stop-replicas", "--state-dir", str(state_dir)]


def _control(world: World, name: str, command: str, probe: str = "") -> PartSpec:
    """A part of the control plane; ``command`` holds no path, so it is cut at spaces."""
    return PartSpec(
        name=name,
        argv=(sys.executable, *command.split()),
        cwd=str(CHECKOUT),
        env=world.control_environment(),
        stop_grace_s=10.0,
        probe=probe,
    )


def _plain(name: str, command: list[str], *, stop_grace_s: float = 10.0, probe: str = "") -> PartSpec:
    return PartSpec(
        name=name,
        argv=(sys.executable, *command),
        cwd=str(CHECKOUT),
        env={"PYTHONUNBUFFERED": "1"},
        stop_grace_s=stop_grace_s,
        probe=probe,
    )
