"""Real WebSocket clients through the gateway to the simulator, unchanged: what they send and get is their own."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import websockets

from tests.support.browser import chromium
from tests.support.gateway import AUTHORIZED, SECRET, Running, agent_state, gateway, run
from tests.support.node import node_modules
from tests.support.simulators import KEY as ENGINE_KEY
from tests.support.simulators import simulator
from tests.support.tables import AgentState, endpoint
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.statefile import write_state

ITEM = {
    "type": "conversation.item.create",
    "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Say something"}]},
}
RESPOND = {"type": "response.create", "response": {"max_response_output_tokens": 12, "temperature": 0}}


def serving(directory: Path, port: int) -> AgentState:
    """The state of an agent whose one replica is the simulator."""
    state = agent_state(directory, port)
    replica = msgspec.structs.replace(endpoint(port), engine_key=ENGINE_KEY)
    write_state(
        directory / "endpoints.json",
        msgspec.json.encode(EndpointSet(endpoint_generation=1, endpoints=(replica,))),
    )
    return state


def judge(events: list[dict[str, Any]]) -> None:
    """A whole response came: the text is the sum of its deltas, and the usage is told."""
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["session.created", "conversation.item.created", "response.created"]
    assert kinds[-1] == "response.done"
    deltas = "".join(event["delta"] for event in events if event["type"] == "response.text.delta")
    (done,) = (event for event in events if event["type"] == "response.text.done")
    assert done["text"] == deltas
    assert events[-1]["response"]["usage"]["output_tokens"] == 12


async def told(running: Running, outcome: str = "ok") -> None:
    (record,) = await running.usage_of(1)
    assert (record.route, record.status, record.outcome) == ("realtime", 101, outcome)


def test_websockets(tmp_path: Path) -> None:
    """The library ``websockets``, compression offered, by query and by first message."""

    async def scenario(port: int) -> None:
        state = serving(tmp_path / "agent", port)
        async with gateway(tmp_path / "gateway", state) as running:
            url = f"ws://127.0.0.1:{running.port}/v1/realtime?model=chat"
            async with websockets.connect(url, additional_headers=AUTHORIZED) as client:
                events = [json.loads(await client.recv())]
                await client.send(json.dumps(ITEM))
                await client.send(json.dumps(RESPOND))
                while events[-1]["type"] != "response.done":
                    events.append(json.loads(await client.recv()))
                await (await client.ping())
            assert client.close_code == 1000
            judge(events)
            await told(running)
            bare = url.partition("?")[0]
            async with websockets.connect(bare, additional_headers=AUTHORIZED) as client:
                await client.send(json.dumps({"type": "session.update", "session": {"model": "chat"}}))
                assert json.loads(await client.recv())["type"] == "session.created"
                assert json.loads(await client.recv())["type"] == "session.updated"

    with simulator("--port", "0") as engine:
        run(scenario(engine.port))


def test_compression_is_between_the_ends(tmp_path: Path) -> None:
    """Client and engine agree on permessage-deflate through the gateway, which never sees a payload."""

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async def scenario() -> None:
        async with websockets.serve(echo, "127.0.0.1", 0, compression="deflate", max_size=None) as server:
            state = agent_state(tmp_path / "agent", server.sockets[0].getsockname()[1])
            async with gateway(tmp_path / "gateway", state) as running:
                url = f"ws://127.0.0.1:{running.port}/v1/realtime?model=chat"
                async with websockets.connect(url, additional_headers=AUTHORIZED, max_size=None) as client:
                    assert "permessage-deflate" in str(client.response.headers)  # type: ignore[union-attr]
                    for size in (0, 1, 125, 126, 65_535, 65_536, 1_000_000):
                        text = "wörd " * (size // 5)
                        await client.send(text)
                        assert await client.recv() == text
                        await client.send(bytes(size))
                        assert await client.recv() == bytes(size)
                await told(running)

    run(scenario())


def test_aiohttp(tmp_path: Path) -> None:
    """The client of aiohttp."""

    async def scenario(port: int) -> None:
        state = serving(tmp_path / "agent", port)
        async with (
            gateway(tmp_path / "gateway", state) as running,
            aiohttp.ClientSession(headers=AUTHORIZED) as session,
        ):
            async with session.ws_connect(running.url + "/v1/realtime/chat", compress=15) as client:
                events = [await client.receive_json()]
                await client.send_json(ITEM)
                await client.send_json(RESPOND)
                while events[-1]["type"] != "response.done":
                    events.append(await client.receive_json())
            judge(events)
            await told(running)

    with simulator("--port", "0") as engine:
        run(scenario(engine.port))


_NODE = """
import WebSocket from "ws";
const socket = new WebSocket(process.argv[2], { headers: { authorization: process.argv[3] } });
const events = [];
socket.on("message", (data) => {
  const event = JSON.parse(data);
  events.push(event);
  if (event.type === "session.created")
    for (const each of JSON.parse(process.argv[4])) socket.send(JSON.stringify(each));
  if (event.type === "response.done") socket.close(1000, "done");
});
socket.on("close", (code) => console.log(JSON.stringify({ code, events })));
socket.on("error", (error) => { console.error(error); process.exit(1); });
"""


def test_node(tmp_path: Path) -> None:
    """Node's ``ws``."""
    folder = node_modules("ws@8.18.3")
    program = folder / "realtime.mjs"
    program.write_text(_NODE)

    async def scenario(port: int) -> None:
        state = serving(tmp_path / "agent", port)
        async with gateway(tmp_path / "gateway", state) as running:
            url = f"ws://127.0.0.1:{running.port}/v1/realtime?model=chat"
            arguments = [url, AUTHORIZED["authorization"], json.dumps([ITEM, RESPOND])]
            result = await asyncio.to_thread(
                subprocess.run,
                ["node", str(program), *arguments],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            assert result.returncode == 0, result.stderr
            told_by_node = json.loads(result.stdout)
            assert told_by_node["code"] == 1000
            judge(told_by_node["events"])
            await told(running)

    with simulator("--port", "0") as engine:
        run(scenario(engine.port))


_PAGE = """
([url, secret, messages]) => new Promise((resolve) => {
  const socket = new WebSocket(url, ["realtime", "openai-insecure-api-key." + secret, "openai-beta.realtime-v1"]);
  const events = [];
  socket.onmessage = (message) => {
    const event = JSON.parse(message.data);
    events.push(event);
    if (event.type === "session.created") for (const each of messages) socket.send(JSON.stringify(each));
    if (event.type === "response.done") socket.close(1000, "done");
  };
  socket.onclose = (event) => resolve({ code: event.code, protocol: socket.protocol, events });
})
"""


@pytest.mark.slow
def test_chromium(tmp_path: Path) -> None:
    """A browser, whose key can only come as a subprotocol, on a page of another origin."""

    def browse(page_url: str, url: str) -> dict[str, Any]:
        with chromium() as browser:
            page = browser.new_page()
            page.goto(page_url)
            result: dict[str, Any] = page.evaluate(_PAGE, [url, SECRET, [ITEM, RESPOND]])
            return result

    async def scenario(port: int) -> None:
        state = serving(tmp_path / "agent", port)
        async with gateway(tmp_path / "gateway", state) as running:
            url = f"ws://127.0.0.1:{running.port}/v1/realtime?model=chat"
            result = await asyncio.to_thread(browse, f"http://127.0.0.1:{port}/health", url)
            assert (result["code"], result["protocol"]) == (1000, "realtime")
            judge(result["events"])
            await told(running)

    with simulator("--port", "0") as engine:
        run(scenario(engine.port))
