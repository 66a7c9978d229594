"""Real libraries at both ends, random messages both ways at once: what one sends the other gets, and nothing else.

The engine's end is the library ``websockets``, which sends back what it gets; with it and with each client
``permessage-deflate`` is agreed on where the client offers it.
"""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
import websockets

from tests.support.browser import chromium
from tests.support.gateway import AUTHORIZED, SECRET, Running, agent_state, gateway, run
from tests.support.node import node_modules

SIZES = (0, 1, 125, 126, 127, 1000, 65_535, 65_536, 300_000)
COUNT = 80
MESSAGE_TYPES = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)


def messages(seed: int) -> list[str | bytes]:
    """Text of all kinds of characters, and bytes."""
    rng = Random(seed)
    made: list[str | bytes] = []
    for _ in range(COUNT):
        size = rng.choice(SIZES)
        if rng.random() < 0.5:
            made.append(rng.randbytes(size))
        else:
            made.append("".join(rng.choices("aä€😀\0 ", k=size // 2)))
    return made


@asynccontextmanager
async def echoing(directory: Path, **limits: Any) -> AsyncIterator[Running]:
    """A gateway before an engine that sends everything back."""

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    def chosen(_connection: Any, offered: Any) -> Any:
        return next(iter(offered), None)

    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None, select_subprotocol=chosen) as server:
        state = agent_state(directory / "agent", server.sockets[0].getsockname()[1])
        async with gateway(directory / "gateway", state, **limits) as running:
            yield running


async def judge(running: Running) -> None:
    """It was an orderly session that carried all of it, both ways."""
    (record,) = await running.usage_of(1)
    assert (record.status, record.outcome) == (101, "ok")


@pytest.mark.parametrize("compression", ["deflate", None])
def test_websockets(tmp_path: Path, compression: str | None) -> None:
    """Fragmented as it comes, pings between."""

    async def scenario() -> None:
        wanted = messages(1)
        async with echoing(tmp_path) as running:
            url = f"ws://127.0.0.1:{running.port}/v1/realtime?model=chat"
            async with websockets.connect(
                url, additional_headers=AUTHORIZED, compression=compression, max_size=None
            ) as client:

                async def send() -> None:
                    for number, message in enumerate(wanted):
                        if number % 3:
                            await client.send(message)
                        else:
                            third = len(message) // 3 + 1
                            await client.send([message[at : at + third] for at in range(0, 3 * third, third)])
                        if number % 10 == 0:
                            await client.ping()

                sending = asyncio.create_task(send())
                assert [await client.recv() for _ in wanted] == wanted
                await sending
            await judge(running)

    run(scenario())


def test_aiohttp(tmp_path: Path) -> None:
    """With compression."""

    async def scenario() -> None:
        wanted = messages(2)
        async with (
            echoing(tmp_path) as running,
            aiohttp.ClientSession(headers=AUTHORIZED) as session,
            session.ws_connect(running.url + "/v1/realtime/chat", compress=15, max_msg_size=0) as client,
        ):

            async def send() -> None:
                for message in wanted:
                    await (
                        client.send_str(message) if isinstance(message, str) else client.send_bytes(message)
                    )

            sending = asyncio.create_task(send())
            got = [await client.receive() for _ in wanted]
            assert {message.type for message in got} <= set(MESSAGE_TYPES)
            assert [message.data for message in got] == wanted
            await sending
            await client.close()
            await judge(running)

    run(scenario())


#: Makes messages, and sees whether the same ones come back in the same order. ``wait``: one comes back first.
_SPEAK = """
  let state = 7;
  const random = () => { state = (state * 1103515245 + 12345) % 2147483648; return state / 2147483648; };
  const sizes = SIZES;
  const made = [];
  for (let number = 0; number < COUNT; number++) {
    const size = sizes[Math.floor(random() * sizes.length)];
    if (random() < 0.5) {
      const bytes = new Uint8Array(size);
      for (let at = 0; at < size; at++) bytes[at] = Math.floor(random() * 256);
      made.push(bytes);
    } else {
      let text = "";
      while (text.length < size / 2) text += ["a", "ä", "€", "😀", "\\0"][Math.floor(random() * 5)];
      made.push(text);
    }
  }
  const same = (one, other) => typeof one === "string"
    ? one === other
    : typeof other !== "string" && one.length === other.length && one.every((byte, at) => byte === other[at]);
""".replace("SIZES", json.dumps(SIZES)).replace("COUNT", str(COUNT))

_NODE = (
    """
import WebSocket from "ws";
"""
    + _SPEAK
    + """
const socket = new WebSocket(process.argv[2], { headers: { authorization: process.argv[3] }, perMessageDeflate: true });
let equal = 0, got = 0, pongs = 0;
socket.on("open", () => made.forEach((message, number) => {
  if (number % 3) return socket.send(message);
  const half = typeof message === "string" ? Math.floor(message.length / 2) : message.length >> 1;
  const binary = typeof message !== "string";
  const cut = binary ? half : [...message].slice(0, Math.floor([...message].length / 2)).join("").length;
  socket.send(message.slice(0, cut), { fin: false, binary });
  socket.ping();
  socket.send(message.slice(cut), { fin: true, binary });
}));
socket.on("pong", () => { pongs += 1; });
socket.on("message", (data, binary) => {
  equal += same(made[got], binary ? new Uint8Array(data) : data.toString());
  got += 1;
  if (got === made.length) socket.close(1000);
});
socket.on("close", (code) => console.log(JSON.stringify({ code, got, equal, pongs })));
socket.on("error", (error) => { console.error(error); process.exit(1); });
"""
)


def test_node(tmp_path: Path) -> None:
    """Node's ``ws``: in parts, compressed, a ping between the parts."""
    folder = node_modules("ws@8.18.3")
    program = tmp_path / "random.mjs"
    program.write_text(_NODE)
    (tmp_path / "node_modules").symlink_to(folder / "node_modules")

    async def scenario() -> None:
        async with echoing(tmp_path) as running:
            url = f"ws://127.0.0.1:{running.port}/v1/realtime?model=chat"
            result = await asyncio.to_thread(
                subprocess.run,
                ["node", str(program), url, AUTHORIZED["authorization"]],
                capture_output=True,
                text=True,
                timeout=40,
                check=False,
            )
            assert result.returncode == 0, result.stderr
            told = json.loads(result.stdout)
            assert told == {"code": 1000, "got": COUNT, "equal": COUNT, "pongs": (COUNT + 2) // 3}
            await judge(running)

    run(scenario())


_PAGE = (
    """
([url, secret]) => new Promise((resolve) => {
"""
    + _SPEAK
    + """
  const socket = new WebSocket(url, ["realtime", "openai-insecure-api-key." + secret]);
  socket.binaryType = "arraybuffer";
  let equal = 0, got = 0;
  socket.onopen = () => made.forEach((message) => socket.send(message));
  socket.onmessage = ({ data }) => {
    equal += same(made[got], typeof data === "string" ? data : new Uint8Array(data));
    got += 1;
    if (got === made.length) socket.close(1000);
  };
  socket.onclose = ({ code }) => resolve({ code, got, equal, extensions: socket.extensions });
})
"""
)


@pytest.mark.slow
def test_chromium(tmp_path: Path) -> None:
    """A browser, which offers compression by itself."""

    def browse(url: str) -> dict[str, Any]:
        with chromium() as browser:
            result: dict[str, Any] = browser.new_page().evaluate(_PAGE, [url, SECRET])
            return result

    async def scenario() -> None:
        async with echoing(tmp_path) as running:
            url = f"ws://127.0.0.1:{running.port}/v1/realtime?model=chat"
            told = await asyncio.to_thread(browse, url)
            assert (told["code"], told["got"], told["equal"]) == (1000, COUNT, COUNT)
            assert "permessage-deflate" in told["extensions"]
            await judge(running)

    run(scenario())
