"""The simulated engine's realtime conversations, as a client's library meets them."""

import asyncio
import json
import signal
from typing import Any

import websockets

from tests.support.simulators import Simulator, simulator


def _connect(engine: Simulator, **options: Any) -> Any:
    url = engine.url.replace("http", "ws") + "/v1/realtime?model=chat"
    return websockets.connect(url, additional_headers=engine.headers, **options)


async def _until(client: Any, kind: str) -> list[dict[str, Any]]:
    """All events up to the first of this kind."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != kind:
        events.append(json.loads(await client.recv()))
    return events


async def _say(client: Any, kind: str, **members: Any) -> None:
    await client.send(json.dumps({"type": kind, **members}))


def test_a_conversation_goes_on_after_what_is_not_understood() -> None:
    """Faults are told as events with the client's event id; one response at a time, which may be cancelled."""

    async def scenario(engine: Simulator) -> None:
        async with _connect(engine, subprotocols=["realtime"]) as client:
            assert client.subprotocol == "realtime"
            await _until(client, "session.created")
            for sent in ('{"type":"dance","event_id":"e1"}', "no json", "[" * 500, '{"type":3}'):
                await client.send(sent)
                (error,) = await _until(client, "error")
                assert error["error"]["type"] == "invalid_request_error"
                assert error["error"]["event_id"] == ("e1" if "dance" in sent else None)
            await _say(client, "session.update", session={"instructions": "Be brief."})
            (updated,) = await _until(client, "session.updated")
            assert updated["session"]["instructions"] == "Be brief."
            await _say(client, "response.create", response={"max_response_output_tokens": 400})
            await _until(client, "response.text.delta")
            await _say(client, "response.create")
            assert (await _until(client, "error"))[-1]["error"]["code"].startswith("conversation_already")
            await _say(client, "response.cancel")
            assert (await _until(client, "response.done"))[-1]["response"]["status"] == "cancelled"
            await _say(client, "response.create", response={"max_response_output_tokens": 3})
            done = (await _until(client, "response.done"))[-1]["response"]
            assert (done["status"], done["usage"]["output_tokens"]) == ("completed", 3)

    with simulator("--port", "0") as engine:
        asyncio.run(scenario(engine))


def test_it_says_that_it_ends() -> None:
    """At SIGTERM an idle session is closed with 1001, and the process ends."""

    async def scenario(engine: Simulator) -> None:
        async with _connect(engine) as client:
            await _until(client, "session.created")
            engine.process.send_signal(signal.SIGTERM)
            await client.wait_closed()
            assert client.close_code == 1001
        assert await asyncio.to_thread(engine.process.wait, 10) == 0

    with simulator("--port", "0") as engine:
        asyncio.run(scenario(engine))
