"""From a request for a deployment to a streamed answer, on the running system."""

import json
import re
import stat
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from tests.e2e.system import Stream, System
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e


def _document(system: System, name: str, **changes: Any) -> dict[str, Any]:
    """A deployment of the example model on the engine of the first region, in the EU alone."""
    return {
        "name": name,
        "model": "tiny-llama",
        "engine": system.engine,
        "residency": ["eu"],
        "autoscaling": {"min_replicas": 1, "max_replicas": 1},
        **changes,
    }


def _assert_chats(system: System, name: str, engine: str) -> None:
    """A streamed chat through the OpenAI SDK is answered by a replica of this engine."""
    assert {replica["engine"] for replica in system.replicas(name)} == {engine}
    stream = Stream(system.openai(), name, max_tokens=16).result()
    assert stream.error is None
    assert stream.pieces
    assert stream.finish_reason == "length"
    assert stream.usage_tokens == 16


def test_endpoints_are_private_and_complete(system: System) -> None:
    """Scripts find everything in one file, which only its owner can read."""
    path = system.state / "endpoints.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    endpoints = system.endpoints()
    assert set(endpoints) >= {
        "console", "api", "edge", "gateways", "api_key", "admin_user", "admin_password", "pids",
    }  # fmt: skip
    assert len(endpoints["gateways"]) == 3
    discovered = {region["region"]: region["url"] for region in system.regions()}
    assert endpoints["gateways"] == discovered
    for part, pid in endpoints["pids"].items():
        assert Path(f"/proc/{pid}").exists(), part


def test_example_answers_in_every_region(system: System) -> None:
    """The example is served from three regions, the first on the real engine where the machine can."""
    engines = {replica["cluster"]: replica["engine"] for replica in system.replicas("chat")}
    assert len(engines) == 3
    assert system.engine in engines.values()
    for region in system.endpoints()["gateways"]:
        answer = system.openai(region).chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "Hello"}], max_tokens=8
        )
        assert answer.choices[0].message.content
        assert answer.usage and answer.usage.completion_tokens > 0


def test_second_up_notices(system: System) -> None:
    """`meridian up` on a running system changes nothing and says so."""
    before = system.endpoints()["pids"]
    done = system.command("up")
    assert done.returncode == 0, done.stderr
    assert "up already" in done.stdout or "already up" in done.stdout
    assert system.endpoints()["pids"] == before


def test_deployment_by_rest_streams(system: System) -> None:
    """POST, wait for Ready, chat with the OpenAI SDK. `meridian up` posted the example for the real engine so."""
    try:
        system.deploy(**_document(system, "by-rest", engine="simulator"))
        _assert_chats(system, "by-rest", "simulator")
    finally:
        system.delete("by-rest")


def test_deployment_by_command_streams(system: System, tmp_path: Path) -> None:
    """`meridian deploy -f` waits, ends with the endpoint, and `meridian chat` talks to it."""
    file = tmp_path / "deployment.yaml"
    file.write_text(yaml.safe_dump(_document(system, "by-command", engine="simulator")))
    try:
        planned = system.command("deploy", "-f", str(file), "--dry-run", "-o", "json")
        assert planned.returncode == 0, planned.stderr
        with system.api() as client:
            assert client.get("/deployments/by-command").status_code == 404
        done = system.command("deploy", "-f", str(file))
        assert done.returncode == 0, done.stderr
        assert "/v1" in done.stdout
        _assert_chats(system, "by-command", "simulator")
        said = system.command("chat", "by-command", "Hello", "--max-tokens", "8")
        assert said.returncode == 0, said.stderr
        assert said.stdout.strip()
    finally:
        system.delete("by-command")


def test_command_refuses_in_one_line(system: System, tmp_path: Path) -> None:
    """A bad document ends with one line that names the field, and its documented exit code."""
    file = tmp_path / "deployment.yaml"
    file.write_text(
        yaml.safe_dump(_document(system, "bad", autoscaling={"min_replicas": 3, "max_replicas": 1}))
    )
    done = system.command("deploy", "-f", str(file))
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "min_replicas" in done.stderr
    assert "Traceback" not in done.stderr
    assert system.command("deployments", "get", "absent").returncode == 4
    assert system.command("deploy", "-f", str(tmp_path / "absent.yaml")).returncode == 2


def test_models_and_errors_are_those_of_openai(system: System) -> None:
    """The SDK lists models and raises its own exceptions."""
    client = system.openai()
    assert "chat" in {model.id for model in client.models.list()}
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="absent", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


def test_residency_keeps_replicas_and_requests_in_the_eu(system: System) -> None:
    """A deployment bound to the EU runs nowhere else; Japan's gateway forwards or refuses as the policy says."""
    document = _document(
        system, "bound", engine="simulator", autoscaling={"min_replicas": 2, "max_replicas": 2}
    )
    try:
        system.deploy(**document)
        eu, japan = system.region_in("eu"), system.region_in("jp")
        assert {replica["cluster"] for replica in system.replicas("bound")} == {system.cluster_in(eu)}
        ask: dict[str, Any] = {
            "model": "bound",
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": 4,
        }
        answer = system.openai(japan).chat.completions.with_raw_response.create(**ask)
        assert answer.headers["x-meridian-served-region"] == eu
        with system.api() as client:
            assert client.patch("/deployments/bound", json={"residency_ingress": "refuse"}).status_code == 202

        def refuses() -> bool:
            try:
                system.openai(japan).chat.completions.create(**ask)
            except openai.APIStatusError as error:
                return error.status_code in (403, 451) and "residency" in str(error.body)
            return False

        eventually(refuses, what="Japan's gateway refuses")
        assert system.openai(eu).chat.completions.create(**ask).choices
    finally:
        system.delete("bound")


def test_scale_to_zero_and_back(system: System) -> None:
    """Without traffic no replica is left; a request is held until one is there again."""
    document = _document(
        system,
        "sleeper",
        engine="simulator",
        autoscaling={
            "min_replicas": 0, "max_replicas": 1, "autoscaling_window_s": 5, "scale_down_delay_s": 0,
        },
    )  # fmt: skip
    try:
        system.deploy(**document)
        stream = Stream(system.openai(), "sleeper", max_tokens=4).result()
        assert stream.error is None
        assert stream.pieces
        eventually(lambda: not system.replicas("sleeper"), within_s=90, what="scaled to zero")
        answer = system.openai().chat.completions.create(
            model="sleeper", messages=[{"role": "user", "content": "wake up"}], max_tokens=4
        )
        assert answer.choices[0].message.content
    finally:
        system.delete("sleeper")


def test_delete_drains_a_running_stream(system: System) -> None:
    """A stream that runs when its deployment is deleted comes to its end; then the deployment is gone."""
    system.deploy(**_document(system, "leaving", engine="simulator"))
    stream = Stream(system.openai(), "leaving", max_tokens=400)
    eventually(stream.started, what="the stream has begun")
    system.delete("leaving")
    ended = stream.result(within_s=1)
    assert ended.error is None
    assert ended.usage_tokens == 400
    assert ended.finish_reason == "length"


def test_prompts_and_keys_are_written_nowhere(system: System) -> None:
    """What a client says, and the key it says it with, is in no file, no table and no metric."""
    canary = "canary-4cb1f0de97"
    system.openai().chat.completions.create(
        model="chat", messages=[{"role": "user", "content": canary}], max_tokens=4
    )
    endpoints = system.endpoints()
    for gateway in endpoints["gateways"].values():
        assert canary not in httpx.get(f"{gateway}/metrics", timeout=5).text
    key = endpoints["api_key"]
    for path in system.state.rglob("*"):
        if not path.is_file() or path.is_symlink() or "cache" in path.relative_to(system.state).parts:
            continue
        content = path.read_bytes()
        assert canary.encode() not in content, path
        if path.name not in ("endpoints.json", "seed.json"):
            assert key.encode() not in content, path


def test_usage_adds_up_to_what_clients_saw(system: System) -> None:
    """Tokens stored for a deployment are the tokens its clients were told."""
    system.deploy(**_document(system, "counted", engine="simulator"))
    try:
        told = 0
        for number in range(5):
            answer = system.openai().chat.completions.create(
                model="counted", messages=[{"role": "user", "content": "x" * number}], max_tokens=7 + number
            )
            assert answer.usage
            told += answer.usage.completion_tokens
        streams = [Stream(system.openai(), "counted", max_tokens=20) for _ in range(5)]
        told += sum(stream.result().usage_tokens or 0 for stream in streams)

        def stored() -> bool:
            with system.api() as client:
                usage = client.get("/usage", params={"deployment": "counted"}).json()
            return bool(re.search(rf'"output_tokens": ?{told}\b', json.dumps(usage)))

        eventually(stored, within_s=15, what=f"{told} output tokens are stored")
    finally:
        system.delete("counted")
