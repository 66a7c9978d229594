"""``up``: from nothing to an answered chat, as much as possible at the same time.

    PostgreSQL ─ migrations ─┬─ web, worker, beat ────────────────┬─ tokens ─ example deployment ─ chat
    example model ───────────┼─ example world (their tokens) ─────┘
    vLLM's environment ──────┴─ agents (they wait for their tokens)
    Valkey, gateways, edge

Every step may find its work done: a second ``up`` repairs what is missing and leaves the rest alone.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from infra.embedded import (
    credentials,
    example_model,
    parts,
    ports,
    postgres,
    record,
    valkey,
    vllm_environment,
)
from infra.embedded.errors import EmbeddedError
from infra.embedded.example_deployment import ExampleDeployment
from infra.embedded.layout import CHECKOUT, Layout, read_json, write_private
from infra.embedded.part import PartSpec
from infra.embedded.parts import CLUSTERS, SIMULATOR, VLLM, World
from infra.embedded.probe import answers
from infra.embedded.progress import Progress
from infra.embedded.supervisor import part_environment
from infra.embedded.supervisor_client import SupervisorClient

_PART_WITHIN_S = 90.0
_PARTS_MAY_END = 3
_COMMAND_WITHIN_S = 300.0
_VLLM_READY_WITHIN_S = 400.0
_SIMULATOR_READY_WITHIN_S = 60.0
_CHAT_WITHIN_S = 60.0


@dataclass(frozen=True)
class UpResult:
    """What is up now."""

    world: World
    endpoints: dict[str, Any]
    was_up: bool


def up(layout: Layout, engine: str | None, progress: Progress) -> UpResult:
    """Bring everything up and return once a chat has been answered.

    ``engine`` is ``vllm``, ``simulator`` or None (what runs already, else vLLM where it can run).
    Raises EmbeddedError: one line that says what failed and where its log is.
    """
    layout.create()
    credentials.instance_mark(layout)
    with _only_one(layout):
        client = SupervisorClient(layout)
        running = record.alive(layout).keys()
        chosen = _choose_engine(layout, engine, bool(running), progress)
        world = World(layout, ports.choose(layout, frozenset(running), progress.say), chosen)
        if _is_up(world, client):
            return UpResult(world, read_json(layout.endpoints), was_up=True)
        client.ensure_running()
        try:
            world = asyncio.run(_BringUp(world, client, progress).run())
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        write_private(layout.state / "engine.json", json.dumps({"engine": world.engine}) + "\n")
        progress.write_timings(layout.timings, engine=world.engine)
        return UpResult(world, read_json(layout.endpoints), was_up=False)


def example(world: World, endpoints: dict[str, Any]) -> ExampleDeployment:
    """The example deployment of a set-up that is seeded."""
    return ExampleDeployment(
        api=endpoints["api"], api_key=endpoints["api_key"], edge=endpoints["edge"], engine=world.engine
    )


class _BringUp:
    """The steps, each waiting only for what it needs."""

    def __init__(self, world: World, client: SupervisorClient, progress: Progress) -> None:
        self._world = world
        self._client = client
        self._progress = progress
        self._layout = world.layout
        self._seed_file = world.layout.control / "seed.json"

    async def run(self) -> World:
        async with asyncio.TaskGroup() as tasks:
            engine = tasks.create_task(asyncio.to_thread(self._engine))
            model = tasks.create_task(asyncio.to_thread(self._model))
            database = tasks.create_task(asyncio.to_thread(self._database))
            servers = tasks.create_task(asyncio.to_thread(self._servers))
            control = tasks.create_task(self._control(database, servers))
            seed = tasks.create_task(self._seed(database, model))
            tasks.create_task(self._planes(database, engine))
            tasks.create_task(self._admit(seed, control))
        await asyncio.to_thread(self._deploy)
        return self._world

    def _engine(self) -> None:
        """Make vLLM's environment; where that fails, say so and go on with simulators."""
        if self._world.engine != VLLM or vllm_environment.is_ready(self._layout):
            return
        try:
            with self._progress.step("vLLM's environment") as step:
                vllm_environment.ensure(self._layout, lambda text: setattr(step, "detail", text))
        except EmbeddedError as error:
            self._progress.say(f"vLLM can't be installed ({error}): using the simulator")
            self._world = replace(self._world, engine=SIMULATOR)

    def _model(self) -> example_model.ExampleModel:
        with self._progress.step("example model"):
            return example_model.ensure(self._layout.cache)

    def _database(self) -> None:
        server = postgres.server(self._layout, self._world.ports["postgres"])
        with self._progress.step("PostgreSQL"):
            server.initialise()
            self._start([server.part()])
            server.ensure_database()
        with self._progress.step("migrations"):
            self._manage("migrate", "--no-input", "--verbosity=0", "--skip-checks")

    def _servers(self) -> None:
        """What needs nothing of the database to begin with."""
        with self._progress.step("Valkey"):
            self._ensure([valkey.server(self._layout, self._world.ports["valkey"]).part()])
        with self._progress.step("gateways and edge"):
            gateways = [parts.gateway(self._world, cluster) for cluster in CLUSTERS]
            self._ensure([*gateways, parts.edge(self._world)])

    async def _control(self, database: asyncio.Task[None], servers: asyncio.Task[None]) -> None:
        await database
        await servers
        with self._progress.step("control plane"):
            specs = [parts.web(self._world), parts.worker(self._world), parts.beat(self._world)]
            await asyncio.to_thread(self._ensure, specs)

    async def _seed(
        self, database: asyncio.Task[None], model: asyncio.Task[example_model.ExampleModel]
    ) -> None:
        await database
        made = await model
        with self._progress.step("example world"):
            await asyncio.to_thread(
                self._manage,
                "seed_example",
                "--skip-checks",
                f"--output={self._seed_file}",
                f"--model-path={made.path}",
                f"--model-digest={made.digest}",
            )

    async def _planes(self, database: asyncio.Task[None], engine: asyncio.Task[None]) -> None:
        """Agents begin before there is a token for them: they wait for its file."""
        await database
        await engine
        with self._progress.step("workload planes"):
            await asyncio.to_thread(self._ensure, [parts.agent(self._world, cluster) for cluster in CLUSTERS])

    async def _admit(self, seed: asyncio.Task[None], control: asyncio.Task[None]) -> None:
        """Hand out the enrolment tokens once there is somebody to enrol with, and publish the addresses."""
        await seed
        await control
        seeded = read_json(self._seed_file)
        for cluster, facts in seeded["clusters"].items():
            self._layout.plane(cluster).mkdir(mode=0o700, parents=True, exist_ok=True)
            if facts["enrolment_token"]:
                write_private(self._world.token_file(cluster), facts["enrolment_token"] + "\n")
        await asyncio.to_thread(self._client.publish, _endpoints(self._world, seeded))

    def _deploy(self) -> None:
        deployment = example(self._world, read_json(self._layout.endpoints))
        with self._progress.step("example deployment"):
            deployment.ensure()
        is_real = self._world.engine == VLLM
        title = f"{'vLLM' if is_real else 'simulator'} in {CLUSTERS[0]}"
        with self._progress.step(title) as step:
            deployment.wait_ready(
                CLUSTERS[0],
                _VLLM_READY_WITHIN_S if is_real else _SIMULATOR_READY_WITHIN_S,
                lambda text: setattr(step, "detail", text),
            )
            step.detail = ""
        with self._progress.step("first chat"):
            deployment.wait_chat(_CHAT_WITHIN_S)

    # -- helpers ---------------------------------------------------------------------------------------

    def _start(self, specs: Iterable[PartSpec]) -> None:
        self._client.start(specs)

    def _ensure(self, specs: list[PartSpec]) -> None:
        """Start parts and wait until each answers."""
        self._start(specs)
        deadline = time.monotonic() + _PART_WITHIN_S
        waiting = {spec.name: spec.probe for spec in specs if spec.probe}
        while waiting:
            waiting = {name: probe for name, probe in waiting.items() if not answers(probe)}
            self._raise_if_dying({spec.name for spec in specs})
            if waiting and time.monotonic() > deadline:
                name = next(iter(waiting))
                raise EmbeddedError(
                    f"{name} did not answer in {_PART_WITHIN_S:.0f} s: {_log(self._layout, name)}"
                )
            if waiting:
                time.sleep(0.05)

    def _raise_if_dying(self, names: set[str]) -> None:
        for part in self._client.status():
            if part.name in names and part.restarts >= _PARTS_MAY_END:
                raise EmbeddedError(
                    f"{part.name} keeps ending ({part.last_exit}): {_log(self._layout, part.name)}"
                )

    def _manage(self, *arguments: str) -> None:
        instance = self._layout.instance.read_text().strip()
        environment = part_environment(self._world.control_environment(), instance)
        log = self._layout.log(f"manage-{arguments[0]}")
        with log.open("ab") as output:
            code = subprocess.run(
                parts.manage(*arguments),
                cwd=CHECKOUT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=_COMMAND_WITHIN_S,
                check=False,
            ).returncode
        if code:
            raise EmbeddedError(f"`manage.py {arguments[0]}` failed: {_log(self._layout, log.stem)}")


def _choose_engine(layout: Layout, engine: str | None, is_running: bool, progress: Progress) -> str:
    remembered = read_json(layout.state / "engine.json").get("engine") if is_running else None
    wanted = engine or remembered or VLLM
    if wanted == VLLM and not (is_running and remembered == VLLM):
        reason = vllm_environment.why_not()
        if reason:
            progress.say(f"{reason}: using the simulator")
            return SIMULATOR
    return str(wanted)


def _is_up(world: World, client: SupervisorClient) -> bool:
    """Whether all parts run, with the engine that is asked for, and a chat is answered."""
    endpoints = read_json(world.layout.endpoints)
    engine = read_json(world.layout.state / "engine.json").get("engine")
    if not endpoints or engine != world.engine or not client.is_running():
        return False
    states = {part.name: part.state for part in client.status()}
    if not states.keys() >= parts.NAMES or any(state != "running" for state in states.values()):
        return False
    try:
        example(world, endpoints).chat()
    except EmbeddedError:
        return False
    return True


def _endpoints(world: World, seed: dict[str, Any]) -> dict[str, Any]:
    return {
        "console": world.url("web"),
        "api": world.url("web"),
        "edge": world.url("edge"),
        "gateways": {seed["clusters"][name]["region"]: world.gateway_url(name) for name in CLUSTERS},
        "api_key": seed["api_key"],
        "admin_user": seed["admin_user"],
        "admin_password": seed["admin_password"],
        "pids": {},
    }


def _log(layout: Layout, name: str) -> str:
    """The line of a log that most likely says why, and where the rest is."""
    try:
        lines = [line.strip() for line in layout.log(name).read_text(errors="replace").splitlines()]
    except OSError:
        lines = []
    likely = [line for line in lines if re.match(r"[\w.]*(Error|Exception|error)\b", line)]
    told = next((line for line in reversed(likely or lines) if line), "it wrote nothing")
    return f"{told[:300]} (see {layout.log(name)})"


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure to tell: of several steps that failed beside each other, the first."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def _only_one(layout: Layout) -> Iterator[None]:
    """Keep a second ``up`` out while one is at work."""
    with (layout.run / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedError("another `up` is at work on this state folder: wait for it") from None
        yield
