"""Why a request went where it went can be read back, by operators alone, and tells nothing of what was said."""

import ipaddress
import json
from pathlib import Path
from random import Random

import httpx
import pytest

from tests.support.gateway import AUTHORIZED, agent_state, gateway, json_answer, run, sends, upstream
from tests.workloadplane.routing.test_pick import snapshot
from workloadplane.gateway.explain import Explained
from workloadplane.routing import Policy, RequestFacts, pick

ANSWER = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
BODY = {
    "model": "chat",
    "user": "secret-session",
    "messages": [{"role": "user", "content": "the-secret-word " * 100}],
}


def test_choices_are_read_back_by_request_id(tmp_path: Path) -> None:
    """First the least loaded, then the one that knows the prompt; a request that went unplaced says that too."""

    async def scenario() -> None:
        answers = sends(json_answer(ANSWER))
        async with upstream(answers) as one, upstream(answers) as other, httpx.AsyncClient() as client:
            state = agent_state(tmp_path / "agent", one.port, other.port)
            async with gateway(tmp_path / "gateway", state) as running:
                told = []
                for _ in range(2):
                    response = await client.post(
                        running.url + "/v1/chat/completions", json=BODY, headers=AUTHORIZED
                    )
                    assert response.status_code == 200
                    request_id = response.headers["x-request-id"]
                    page = await client.get(f"{running.url}/debug/explain/{request_id}")
                    assert page.status_code == 200
                    assert "secret" not in page.text
                    (choice,) = page.json()["choices"]
                    assert (choice["choice"], choice["target"]) == (
                        "replica", response.headers["x-meridian-replica"]
                    )  # fmt: skip
                    told.append(choice)
                assert told[0]["reasons"] == "revision by weight least loaded of 2"
                assert told[0]["known"] == []
                assert told[1]["reasons"].startswith("revision by weight bytes known 1536 of ")
                assert told[1]["known"] == [{"bytes": 1536, "replicas": 1, "among_them": [told[0]["target"]]}]
                missing = await client.get(f"{running.url}/debug/explain/req-none")
                assert missing.status_code == 404
                assert missing.json()["error"]["code"] == "not_explained"

    run(scenario())


def test_only_operators_may_ask(tmp_path: Path) -> None:
    """From elsewhere the page does not exist, whatever key comes with it."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(ANSWER))) as engine, httpx.AsyncClient() as client:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                running.process._gateway._local._operator_networks = (ipaddress.ip_network("10.0.0.0/8"),)
                response = await client.post(
                    running.url + "/v1/chat/completions", json=BODY, headers=AUTHORIZED
                )
                page = await client.get(
                    f"{running.url}/debug/explain/{response.headers['x-request-id']}", headers=AUTHORIZED
                )
                assert page.status_code == 404
                assert page.json()["error"]["code"] == "unknown_url"

    run(scenario())


@pytest.mark.parametrize(
    ("remote", "asks"),
    [
        ("127.0.0.1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("::1", False),
        ("", False),
    ],
)
def test_an_operator_is_known_on_a_socket_for_both_protocols(tmp_path: Path, remote: str, asks: bool) -> None:
    """There an address of the old protocol comes written in the new one's way."""

    async def scenario() -> None:
        async with gateway(tmp_path / "gateway", agent_state(tmp_path / "agent")) as running:
            assert running.process._gateway._local.is_operator(remote) is asks

    run(scenario())


def test_what_is_kept_is_bounded_and_sampled() -> None:
    """The latest requests, one in so many, and of one request not every try."""
    explained = Explained(requests_max=10, one_in=2)
    facts = RequestFacts(None, True)
    for number in range(100):
        shot = snapshot(in_flight={"a": number})
        explained.note(f"r{number}", "d", facts, shot, pick(facts, shot, Policy(), Random(number)), at=1.0)
    kept = [number for number in range(100) if explained.of(f"r{number}") is not None]
    assert kept == list(range(81, 100, 2))
    for _ in range(50):
        explained.note(
            "r99", "d", None, snapshot(), pick(facts, snapshot(replicas=()), Policy(), Random(0)), at=2.0
        )
    told = explained.of("r99")
    assert told is not None
    assert len(told) == 16
    assert told[0]["choice"] == "replica"
    assert told[-1]["choice"] == "peer"
    assert json.dumps(told)
