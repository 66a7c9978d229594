"""What a request leaves behind in memory once it has ended: nothing that only the garbage collector would find."""

import gc

import httpx
import pytest

from tests.support.gateway import (
    AUTHORIZED,
    SSE_HEAD,
    agent_state,
    chunk,
    gateway,
    json_answer,
    run,
    sends,
    upstream,
)

_STREAM = SSE_HEAD + chunk(b'data: {"choices":[]}\n\n') + chunk(b"data: [DONE]\n\n") + chunk(b"")


@pytest.mark.parametrize("answer", [json_answer(b'{"usage":{"prompt_tokens":1}}'), _STREAM])
def test_requests_leave_no_cycles(tmp_path, answer):
    """The collector runs rarely in the gateway's process, so whatever a request was made of must go with it."""

    async def scenario() -> None:
        body = {"model": "chat", "messages": [], "stream": answer is _STREAM}
        async with (
            upstream(sends(answer)) as engine,
            gateway(tmp_path / "gateway", agent_state(tmp_path / "agent", engine.port)) as running,
            httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
        ):
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
            gc.collect()
            gc.disable()
            try:
                for _ in range(20):
                    await client.post("/v1/chat/completions", json=body)
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                left = {type(each) for each in gc.garbage}
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert not [each for each in left if each.__module__.startswith("workloadplane.")]

    run(scenario())
