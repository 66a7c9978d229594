"""Headers go by an allow-list both ways, and keys are each side's own."""

from pathlib import Path

import httpx

from tests.support.gateway import AUTHORIZED, agent_state, gateway, json_answer, run, sends, upstream

SENT = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "a=1",
    "idempotency-key": "k-1",
    "openai-organization": "org-1",
    "openai-project": "proj-1",
    "openai-beta": "assistants=v2",
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "b-1",
    "accept": "application/json",
    "user-agent": "tester/1",
    "x-request-id": "mine-1",
}
KEPT_BACK = {
    "cookie": "session=1",
    "x-meridian-peer-x": "1",
    "x-meridian-resume": "1",
    "x-forwarded-for": "10.0.0.1",
    "forwarded": "for=10.0.0.1",
    "x-api-key": "sk-other",
    "proxy-authorization": "Basic x",
    "x-engine-admin": "1",
    "accept-encoding": "gzip",
    "content-encoding": "identity",
    "range": "bytes=0-1",
    "te": "trailers",
}
RETURNED = {
    "retry-after": "7",
    "x-should-retry": "false",
    "openai-processing-ms": "12",
    "cache-control": "no-store",
    "content-language": "en",
}
NOT_RETURNED = {
    "server": "uvicorn",
    "set-cookie": "session=1",
    "x-powered-by": "engine",
    "x-meridian-inner": "1",
    "x-request-id": "the-engines",
    "access-control-allow-origin": "*",
    "location": "http://10.0.0.1/",
    "x-engine-host": "10.0.0.1",
}


def test_what_is_on_neither_list_stays_behind(tmp_path: Path) -> None:
    """An engine learns nothing of the client beside the list, a client nothing of the engine."""

    async def scenario() -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**RETURNED, **NOT_RETURNED}.items())
        answer = json_answer(b"{}", "429 Too Many Requests", lines)
        async with upstream(sends(answer)) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                got = await client.post(
                    running.url + "/v1/chat/completions",
                    json={"model": "chat"},
                    headers={**AUTHORIZED, **SENT, **KEPT_BACK},
                )
        assert got.status_code == 429
        (seen,) = engine.received
        assert {name: seen.headers.get(name) for name in SENT} == SENT
        assert not set(KEPT_BACK) & set(seen.headers)
        own = {"host", "authorization", "content-type", "content-length"}
        assert set(seen.headers) == set(SENT) | own
        assert {name: got.headers.get(name) for name in RETURNED} == RETURNED
        assert got.headers["x-request-id"] == "mine-1"
        assert not set(NOT_RETURNED) - {"x-request-id"} & set(got.headers)

    run(scenario())


def test_an_engine_that_refuses_our_key_is_not_the_clients_fault(tmp_path: Path) -> None:
    """Another replica is asked; where there is none the client is told 502, never that its own key is wrong."""

    async def scenario() -> None:
        refusal = sends(json_answer(b'{"error":"Unauthorized"}', "401 Unauthorized"))
        async with upstream(refusal) as wrong, upstream(sends(json_answer(b"{}"))) as right:
            for name, ports, status in (("two", (wrong.port, right.port), 200), ("one", (wrong.port,), 502)):
                state = agent_state(tmp_path / name / "agent", *ports)
                async with gateway(tmp_path / name, state) as running, httpx.AsyncClient() as client:
                    for _ in range(6):
                        got = await client.post(
                            running.url + "/v1/chat/completions", json={"model": "chat"}, headers=AUTHORIZED
                        )
                        assert got.status_code == status
            assert got.json()["error"]["code"] == "upstream_refused"
            assert wrong.received

    run(scenario())
