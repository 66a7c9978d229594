"""The whole system as `make up` starts it, in a state folder of its own, and what its tests do to it."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai

from tests.support.waiting import eventually

CHECKOUT = Path(__file__).resolve().parents[2]
MERIDIAN = Path(sys.executable).with_name("meridian")
CONTROL_PLANE = ("web", "worker", "beat", "postgres", "valkey")
HOST = "127.0.0.1"


@dataclass
class System:
    """A running system. ``engine`` is what serves the example in the first region."""

    state: Path
    engine: str

    def endpoints(self) -> dict[str, Any]:
        """``endpoints.json``, as it is now."""
        document: dict[str, Any] = json.loads((self.state / "endpoints.json").read_text())
        return document

    def command(self, *arguments: str, within_s: float = 600.0) -> subprocess.CompletedProcess[str]:
        """Run ``meridian`` as its user would, logged in to this system."""
        endpoints = self.endpoints()
        environment = {
            **self.environment(),
            "MERIDIAN_API_URL": endpoints["api"],
            "MERIDIAN_API_KEY": endpoints["api_key"],
            "MERIDIAN_INFERENCE_URL": endpoints["edge"],
        }
        return subprocess.run(
            [MERIDIAN, *arguments],
            env=environment,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def environment(self) -> dict[str, str]:
        """The environment in which a command means this system and no other."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("MERIDIAN_", "DJANGO_"))
        }
        kept.pop("DATABASE_URL", None)
        return {**kept, "MERIDIAN_STATE_DIR": str(self.state), "XDG_CONFIG_HOME": str(self.state / "config")}

    # -- the API ------------------------------------------------------------------------------------

    def api(self) -> httpx.Client:
        """A client of the REST API with the example's key."""
        endpoints = self.endpoints()
        headers = {"authorization": f"Bearer {endpoints['api_key']}"}
        return httpx.Client(base_url=f"{endpoints['api']}/api/v1", headers=headers, timeout=30)

    def deploy(self, **document: Any) -> dict[str, Any]:
        """POST a deployment and wait until it is ready."""
        with self.api() as client:
            answer = client.post("/deployments", json=document)
            assert answer.status_code == 202, answer.text
        return self.ready(document["name"])

    def ready(self, name: str, *, within_s: float = 240.0) -> dict[str, Any]:
        """The deployment, once its condition Ready is true for its newest generation."""

        def is_ready() -> dict[str, Any] | None:
            deployment = self.deployment(name)
            newest = {c["type"]: c for c in deployment["conditions"]}
            ready = newest.get("Ready")
            fresh = ready and ready["status"] and ready["observed_generation"] == deployment["generation"]
            return deployment if fresh else None

        return eventually(is_ready, within_s=within_s, what=f"{name} is ready") or {}

    def deployment(self, name: str) -> dict[str, Any]:
        """The deployment as the API shows it."""
        with self.api() as client:
            answer = client.get(f"/deployments/{name}")
            assert answer.status_code == 200, answer.text
            document: dict[str, Any] = answer.json()
            return document

    def replicas(self, name: str) -> list[dict[str, Any]]:
        """The deployment's replicas that are not gone."""
        with self.api() as client:
            answer = client.get(f"/deployments/{name}/replicas")
            assert answer.status_code == 200, answer.text
            return [r for r in answer.json()["items"] if r["state"] not in ("stopped", "failed")]

    def delete(self, name: str, *, within_s: float = 60.0) -> None:
        """Delete a deployment and wait until it is gone."""
        with self.api() as client:
            answer = client.delete(f"/deployments/{name}")
            assert answer.status_code in (202, 404), answer.text
            eventually(
                lambda: client.get(f"/deployments/{name}").status_code == 404,
                within_s=within_s,
                what=f"{name} gone",
            )

    # -- inference ----------------------------------------------------------------------------------

    def openai(self, gateway: str | None = None, **options: Any) -> openai.OpenAI:
        """The OpenAI SDK, unchanged, against the edge or one region's gateway."""
        endpoints = self.endpoints()
        base = endpoints["gateways"][gateway] if gateway else endpoints["edge"]
        options = {"timeout": 60, "max_retries": 0, **options}
        return openai.OpenAI(base_url=f"{base}/v1", api_key=endpoints["api_key"], **options)

    def region_in(self, jurisdiction: str) -> str:
        """The region in this jurisdiction, as the edge's discovery document names it."""
        return str(next(r["region"] for r in self.regions() if r["jurisdiction"] == jurisdiction))

    def cluster_in(self, region: str) -> str:
        """The cluster in a region."""
        return str(next(r["cluster"] for r in self.regions() if r["region"] == region))

    def regions(self) -> list[dict[str, Any]]:
        """What clients discover."""
        document = httpx.get(f"{self.endpoints()['edge']}/.well-known/meridian/regions", timeout=5).json()
        regions: list[dict[str, Any]] = document["regions"]
        return regions

    # -- faults -------------------------------------------------------------------------------------

    def kill(self, *parts: str) -> None:
        """``kill -9`` parts by name; the supervisor starts them again."""
        pids = self.endpoints()["pids"]
        for part in parts:
            os.kill(pids[part], signal.SIGKILL)

    @contextmanager
    def without_control_plane(self) -> Iterator[None]:
        """Web, worker, beat, PostgreSQL and Valkey dead; what tries to come back finds its port taken."""
        ports = json.loads((self.state / "ports.json").read_text())
        self.kill(*CONTROL_PLANE)
        held: list[_HeldPort] = []
        try:
            held.extend(_HeldPort(ports[part]) for part in ("web", "postgres", "valkey"))
            yield
        finally:
            for holder in held:
                holder.close()
        self.control_plane_answers()

    def control_plane_answers(self, *, within_s: float = 120.0) -> None:
        """Wait until the API answers again."""

        def answers() -> bool:
            try:
                with self.api() as client:
                    return client.get("/deployments").status_code == 200
            except httpx.TransportError:
                return False

        eventually(answers, within_s=within_s, what="the API answers")


class _HeldPort:
    """A port that nobody else can listen on; whoever connects is cut off at once."""

    def __init__(self, port: int) -> None:
        self._socket = eventually(lambda: _listen(port), within_s=30, what=f"port {port} can be held")
        threading.Thread(target=self._refuse, daemon=True).start()

    def _refuse(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _listen(port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError:
        listener.close()
        return None
    return listener


@dataclass
class Stream:
    """One streamed chat in a thread of its own."""

    client: openai.OpenAI
    model: str
    max_tokens: int = 200
    pieces: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    error: BaseException | None = None
    usage_tokens: int | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            stream = self.client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": "Tell me a long story."}],
                max_tokens=self.max_tokens,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"ignore_eos": True},
            )
            for chunk in stream:
                if chunk.usage:
                    self.usage_tokens = chunk.usage.completion_tokens
                for choice in chunk.choices:
                    if choice.delta.content:
                        self.pieces.append(choice.delta.content)
                    self.finish_reason = choice.finish_reason or self.finish_reason
        except BaseException as error:
            self.error = error

    def started(self) -> bool:
        """Whether an answer has begun."""
        return bool(self.pieces)

    def ended(self) -> bool:
        """Whether nothing more comes."""
        return not self._thread.is_alive()

    def result(self, *, within_s: float = 120.0) -> "Stream":
        """The stream, once it has ended."""
        self._thread.join(within_s)
        assert not self._thread.is_alive(), f"the stream did not end within {within_s} s"
        return self


def start(state: Path, engine: str | None) -> System:
    """``meridian up`` into a state folder; asserts that it came up, and else leaves nothing running."""
    system = System(state, engine or "vllm")
    try:
        _up(system, ["--engine", engine] if engine else [])
    except BaseException:
        stop(system)
        raise
    system.engine = json.loads((state / "up-timings.json").read_text())["engine"]
    return system


def _up(system: System, options: list[str]) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [MERIDIAN, "up", *options],
        env=system.environment(),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\nafter {time.monotonic() - began:.0f} s"


def stop(system: System) -> None:
    """``meridian down``."""
    done = subprocess.run(
        [MERIDIAN, "down"],
        env=system.environment(),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
