"""Bodies that are right and still odd: what the gateway can't read it passes on, what fits nowhere it refuses."""

from pathlib import Path

import httpx
import msgspec
import pytest

from tests.support.gateway import AUTHORIZED, agent_state, gateway, json_answer, run, sends, upstream
from tests.support.tables import endpoint
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.statefile import write_state


def test_a_number_that_no_float_holds_reaches_the_engine_as_it_was(tmp_path: Path) -> None:
    """Members are exchanged without a look into the others, also where the body must be put together anew."""

    async def scenario() -> None:
        body = (
            b'{"model":"chat","messages":[],"stream":true,"stream_options":{"x":11e400},"y":1E999,'
            b'"priority":-9,"z":{"priority":0}}'
        )
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                url = running.url + "/v1/chat/completions"
                answer = await client.post(url, content=body, headers=AUTHORIZED)
                assert answer.status_code == 200
            (received,) = engine.received
            assert b'"stream_options":{"x":11e400,"include_usage":true}' in received.body
            assert b'"y":1E999' in received.body

    run(scenario())


@pytest.mark.parametrize(
    ("path", "param"), [("/v1/chat/completions", "messages"), ("/v1/completions", "prompt")]
)
def test_a_prompt_that_fits_no_replica_is_the_clients_to_mend(tmp_path: Path, path: str, param: str) -> None:
    """400 as OpenAI says it, with the member to shorten: coming again would not help, and nothing is asked."""

    async def scenario() -> None:
        text = "word " * 40_000
        prompt = (
            {"messages": [{"role": "user", "content": text}]} if param == "messages" else {"prompt": text}
        )
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            small = msgspec.structs.replace(endpoint(engine.port), max_context_tokens=16)
            told = EndpointSet(endpoint_generation=2, endpoints=(small,))
            write_state(state.directory / "endpoints.json", msgspec.json.encode(told))
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                answer = await client.post(
                    running.url + path, json={"model": "chat", **prompt}, headers=AUTHORIZED
                )
            assert engine.received == []
        assert answer.status_code == 400
        assert "retry-after" not in answer.headers
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("context_length_exceeded", param)
        assert error["type"] == "invalid_request_error"
        assert "16 tokens" in error["message"]

    run(scenario())


def test_a_body_as_deep_as_can_be_read_at_all_is_answered(tmp_path: Path) -> None:
    """The deepest that is let in may be too deep to be written anew: that is told, and the connection lives."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with (
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            ):
                told = set()
                for depth in range(900, 1000):
                    deep = b"[" * depth + b"]" * depth
                    body = b'{"model":"chat","stream":true,"stream_options":{},"x":%b}' % deep
                    answer = await client.post("/v1/chat/completions", content=body)
                    told.add((answer.status_code, answer.json().get("error", {}).get("code")))
                assert told == {(200, None), (400, "body_too_deep")}

    run(scenario())
