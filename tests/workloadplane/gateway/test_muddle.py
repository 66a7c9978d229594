"""Keys, heads, bodies and engines all mixed up on busy connections: everybody gets what is theirs."""

import asyncio
import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.support.gateway import Received, agent_state, chunk, gateway, run, upstream
from tests.support.tables import api_key
from tests.support.waiting import eventually_async

KEYS = {"key-a": "sk-a", "key-b": "sk-b"}
STATUSES = (200, 200, 200, 200, 204, 304, 400, 429, 500, 503)
CLIENTS, REQUESTS = 32, 40


@dataclass
class Seen:
    """What clients saw, by key and status, and how many went without waiting to see."""

    ended: Counter[tuple[str, int]] = field(default_factory=Counter)
    left: int = 0


async def muddled(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An engine that answers in another way each time, as it was asked to."""
    asked = json.loads(received.body)["messages"][0]
    told = json.dumps({"id": asked["id"], "usage": {"prompt_tokens": 1, "completion_tokens": asked["made"]}})
    body, how, status = told.encode(), asked["how"], asked["status"]
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n" % status
    interim = b"HTTP/1.1 103 X\r\nlink: x\r\n\r\n"
    if status in (204, 304):
        writer.write(head + b"content-length: %d\r\n\r\n" % (0 if how == "cut" else len(body)))
    elif how == "chunked":
        writer.write(head + b"transfer-encoding: chunked\r\n\r\n")
        await writer.drain()
        writer.write(chunk(body[:9]) + chunk(body[9:]) + b"0\r\nx-sum: 5\r\n\r\n")
    elif how == "interim":
        writer.write(interim + head + b"content-length: %d\r\n\r\n" % len(body) + body)
    elif how == "cut":
        whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        writer.write(whole[: len(whole) // 2])
        await asyncio.sleep(0)
        writer.write(whole[len(whole) // 2 :])
    elif how == "closes":
        writer.write(head + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()
    else:
        writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)


def request(rng: Random, secret: str, number: int) -> tuple[bytes, str, int]:
    """Bytes, what its answer must hold, and its status."""
    status = rng.choice(STATUSES)
    mark = f"{secret}-{number}-" + "x" * rng.choice((0, 0, 1, 9, 99))
    hows = ("plain", "plain", "plain", "chunked", "interim", "cut", "closes")
    asked = {"id": mark, "how": rng.choice(hows), "status": status, "made": number}
    if rng.random() < 0.1:  # a body that looks like a head
        asked["content"] = "\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n"
    body = json.dumps({"model": "chat", "messages": [asked]}, ensure_ascii=False).encode()
    name = rng.choice((b"content-length", b"content-length", b"Content-Length"))
    lines = [b"host: g", b"authorization: Bearer " + secret.encode(), b"%s: %d" % (name, len(body))]
    if rng.random() < 0.2:
        rng.shuffle(lines)
    return b"POST /v1/chat/completions HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + body, mark, status


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status, body = int(head[9:12]), b""
    if status in (204, 304):
        assert b"transfer-encoding" not in head
    elif b"transfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        assert await reader.readline() == b"\r\n"
    else:
        body = await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
    return status, body


async def one_client(port: int, rng: Random, key_id: str, seen: Seen) -> None:
    """Requests alone, in pieces and several ahead, on connections that it leaves now and then."""
    number = 0
    while number < REQUESTS:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            while number < REQUESTS:
                several = [
                    request(rng, KEYS[key_id], number + more) for more in range(rng.choice((1, 1, 1, 4)))
                ]
                number += len(several)
                data = b"".join(each[0] for each in several)
                at = rng.randrange(len(data)) if rng.random() < 0.2 else len(data)
                writer.write(data[:at])
                if at < len(data):
                    await writer.drain()
                    await asyncio.sleep(0.001)
                    writer.write(data[at:])
                if rng.random() < 0.03:
                    seen.left += len(several)
                    break
                for _, mark, status in several:
                    got, body = await answer(reader)
                    if got not in (204, 304):
                        assert got == status, body
                        assert json.loads(body)["id"] == mark, "another one's answer"
                    seen.ended[key_id, got] += 1


def test_everybody_gets_their_own_answer_and_is_billed_for_it(tmp_path: Path) -> None:
    """And the records, the counters and what the clients saw agree."""

    async def scenario() -> None:
        seen = Seen()
        keys = [api_key(secret, api_key_id=key_id) for key_id, secret in KEYS.items()]
        async with upstream(muddled) as engine:
            state = agent_state(tmp_path / "agent", engine.port, keys=keys)
            async with gateway(tmp_path / "gateway", state, ejection_s=0.001) as running:
                clients = (
                    one_client(running.port, Random(number), "key-a" if number % 2 else "key-b", seen)
                    for number in range(CLIENTS)
                )
                await asyncio.gather(*clients)
                context = running.process._context
                await eventually_async(lambda: not context.relays and not running.process._gateway.body_bytes)
                context.ledger.write()
                usage = await running.usage_of(sum(context.counters.requests.values()))
                billed = Counter((each.api_key_id, each.status) for each in usage)
                assert len(usage) - sum(seen.ended.values()) <= seen.left
                for told, count in seen.ended.items():
                    assert billed[told] >= count, (told, billed)
                assert sum(context.counters.requests.values()) == len(usage)
                assert not context.registry.in_flight

    run(scenario())
