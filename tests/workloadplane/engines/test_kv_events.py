"""What engines publish of their KV caches: vLLM's form is understood, and the simulated engine speaks it."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.support.simulators import simulator
from tests.support.waiting import eventually_async
from workloadplane.agent.kv_listening import listen
from workloadplane.engines.kv_events import KvCounts
from workloadplane.runtimes.event_sockets import event_address, forget_event_address


def batch(*events: dict[str, object]) -> bytes:
    return msgspec.msgpack.encode([1.5, list(events), 0])


def stored(count: int, *, medium: str | None = "GPU") -> dict[str, object]:
    """As vLLM 0.32 sends it; hashes are bytes or whole numbers."""
    hashes: list[object] = [bytes([number]) * 32 for number in range(count - 1)]
    return {
        "type": "BlockStored",
        "block_hashes": [*hashes, 17],
        "parent_block_hash": None,
        "token_ids": list(range(16 * count)),
        "block_size": 16,
        "lora_id": None,
        "medium": medium,
        "lora_name": "chat:sql",
        "extra_keys": [["chat:sql"]] * count,
        "group_idx": 0,
    }


def test_amounts_are_counted_and_losses_noticed() -> None:
    """Tokens stored; a cleared cache, a gap and an engine that begins anew each count as a loss; garbage as none."""
    counts = KvCounts()
    counts.take(0, batch(stored(3), {"type": "BlockRemoved", "block_hashes": [1], "medium": "GPU"}))
    assert (counts.stored_tokens, counts.clears, counts.heard) == (48, 0, True)
    counts.take(1, batch(stored(2, medium="CPU"), stored(1)))
    assert counts.stored_tokens == 64
    counts.take(2, batch({"type": "AllBlocksCleared"}))
    assert counts.clears == 1
    counts.take(5, batch(stored(1)))
    assert counts.clears == 2
    counts.take(0, batch(stored(1)))
    assert counts.clears == 3
    counts.take(1, b"\xc1 no MessagePack")
    counts.take(2, batch({"type": "SomethingNew"}))
    assert (counts.stored_tokens, counts.clears) == (96, 3)


def test_the_socket_is_this_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of mode 0700 by the replica's id; a folder that others may enter is not used."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    address = event_address("replica-1")
    assert address.startswith(f"ipc://{tmp_path}/meridian-")
    assert address == event_address("replica-1") != event_address("replica-2")
    path = Path(address.removeprefix("ipc://"))
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.touch()
    forget_event_address("replica-1")
    assert not path.exists()
    path.parent.chmod(0o755)
    assert event_address("replica-1") == ""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    yield f"ipc://{tmp_path}/kv"


def test_the_simulated_engine_tells_what_comes_and_goes(address: str) -> None:
    """Blocks of a prompt are told once, the same prompt again brings none, and a full cache turns over."""

    async def scenario() -> None:
        counts = KvCounts()
        arguments = (f"--kv-events={address}", "--kv-capacity-tokens=2048", "--prefill-tokens-per-s=1000000")
        with simulator(*arguments) as engine:
            listening = asyncio.create_task(listen(address, counts))
            async with httpx.AsyncClient(headers=engine.headers, timeout=20) as client:

                async def ask(text: str) -> None:
                    body = {"model": "chat", "prompt": text, "max_tokens": 1, "temperature": 0}
                    response = await client.post(engine.url + "/v1/completions", json=body)
                    assert response.status_code == 200

                async def heard() -> bool:
                    await ask("hello " * 40)
                    return counts.heard

                for _ in range(100):  # a subscription takes a moment; what came before it is not told again
                    await ask("other " * 20)
                    if counts.heard or await heard():
                        break
                    await asyncio.sleep(0.05)
                await ask("again " * 320)
                await eventually_async(lambda: counts.stored_tokens >= 320, what="the prompt's blocks")
                before = counts.stored_tokens
                await ask("again " * 320)
                await ask("end " * 17)
                await eventually_async(lambda: counts.stored_tokens > before, what="the last one's block")
                assert counts.stored_tokens - before <= 32
                for number in range(16):
                    await ask(f"{number} " * 320)
                await eventually_async(lambda: counts.stored_tokens > 2 * 2048, what="turn-over")
                assert counts.clears == 0
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening

    asyncio.run(asyncio.wait_for(scenario(), 60))
