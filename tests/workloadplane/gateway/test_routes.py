"""What of an engine exists for clients: the allow-list against all that vLLM really offers."""

from pathlib import Path

import httpx
import pytest

from tests.support.gateway import AUTHORIZED, agent_state, gateway, json_answer, run, sends, upstream
from workloadplane.gateway import routes
from workloadplane.gateway.errors import Failure

_SAMPLE = Path(__file__).parent / "samples" / "vllm-0.32.0-routes.txt"
ENGINE_ROUTES = [tuple(line.split()) for line in _SAMPLE.read_text().splitlines()]
RELAYED = {
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/{response_id}"),
    ("POST", "/v1/responses/{response_id}/cancel"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/score"),
    ("POST", "/score"),
    ("POST", "/v1/rerank"),
    ("POST", "/v2/rerank"),
    ("POST", "/rerank"),
    ("POST", "/pooling"),
    ("POST", "/classify"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/audio/translations"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
}
# Answered by the gateway itself, whatever engines have under these names.
OWN = {("GET", "/health"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/v1/models")}
TUNNELED = {("WEBSOCKET", "/v1/realtime")}


def test_every_route_of_the_engine_is_relayed_or_does_not_exist() -> None:
    """No route of vLLM reaches an engine that is not on the list, and none of the list is missed."""
    found = set()
    for method, path in ENGINE_ROUTES:
        answer = routes.find(method.encode(), path.replace("{response_id}", "resp_1").encode())
        if not isinstance(answer, Failure):
            found.add((method, path))
        elif (method, path) not in OWN | TUNNELED:
            assert answer.status == 404, path
    assert found == RELAYED


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1/chat//completions",
        "/V1/chat/completions",
        "/v1/chat/%63ompletions",
        "/v1/chat/completions/../../../sleep",
        "/v1/chat/completions;x",
        "/v1/responses/",
        "/v1/responses/../sleep",
        "/v1/responses/a%2fb",
        "/v1/responses/resp_1/cancel/",
        "/v1/responses/resp_1/input_items",
        "/v1/audio",
        "/simulator/faults",
    ],
)
def test_another_way_to_write_a_path_does_not_exist(path: str) -> None:
    """Paths are compared byte for byte."""
    for method in (b"GET", b"POST", b"DELETE"):
        answer = routes.find(method, path.encode())
        assert isinstance(answer, Failure)
        assert answer.status == 404


def test_a_method_that_a_route_does_not_have_is_refused_by_its_name() -> None:
    """405 names what is allowed."""
    for method, path, allowed in (
        (b"GET", b"/v1/chat/completions", "POST"),
        (b"DELETE", b"/v1/embeddings", "POST"),
        (b"POST", b"/v1/responses/resp_1", "GET or DELETE"),
        (b"GET", b"/v1/responses/resp_1/cancel", "POST"),
    ):
        answer = routes.find(method, path)
        assert isinstance(answer, Failure)
        assert (answer.status, answer.message.endswith(f"use {allowed}.")) == (405, True)


def test_an_engine_is_never_asked_for_what_is_not_listed(tmp_path: Path) -> None:
    """On the socket: every other route of vLLM, with a good key, is a 404 and no engine hears of it."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with (
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            ):
                for method, path in ENGINE_ROUTES:
                    if (method, path) in RELAYED | OWN | TUNNELED:
                        continue
                    response = await client.request(method, path, json={"model": "chat"})
                    assert response.status_code == 404, path
                    if not path.startswith("/v1/messages"):  # its errors have another shape
                        assert response.json()["error"]["code"] == "unknown_url"
                    assert response.headers["x-should-retry"] == "false"
                    assert response.headers["x-request-id"]
            assert engine.connections == 0

    run(scenario())
