"""What is written down adds up to what clients saw, whatever happened to them."""

import asyncio
import contextlib
import signal
from pathlib import Path
from random import Random

import openai
import pytest

from tests.support.gateway import (
    SECRET,
    Received,
    agent_state,
    gateway,
    json_answer,
    post,
    raw,
    run,
    sends,
    upstream,
)
from tests.workloadplane.gateway.test_openai_client import MESSAGES, simulator
from workloadplane.gateway.context import GatewayContext
from workloadplane.gateway.ledger import Ledger
from workloadplane.gateway.record import Figures, Finished, record
from workloadplane.gateway.usage import WINDOW_S, Histogram
from workloadplane.protocol.spool import SpoolReader
from workloadplane.protocol.usage import LATENCY_BUCKETS_S

OK = b"HTTP/1.1 200 "


def test_usage_adds_up_to_what_clients_saw(tmp_path: Path) -> None:
    """Whole answers, streams, clients that leave and a replica killed: one record each, and tokens agree."""

    async def scenario() -> None:
        whole: dict[str, int] = {}  # request id -> tokens
        left: set[str] = set()
        broken: set[str] = set()
        rng = Random(7)
        slow = ("--decode-step-s", "0.005", "--decode-step-per-sequence-s", "0")

        async def one(user: openai.AsyncOpenAI, number: int, leaves: bool) -> None:
            tokens = 5 + number % 20
            if number % 3 == 0:
                answer = await user.chat.completions.create(
                    model="chat", messages=MESSAGES, max_tokens=tokens
                )
                assert answer.usage is not None
                assert answer._request_id is not None
                whole[answer._request_id] = answer.usage.completion_tokens
                return
            stream = await user.chat.completions.create(
                model="chat",
                messages=MESSAGES,
                max_tokens=tokens,
                stream=True,
                stream_options={"include_usage": True},
            )
            request_id = stream.response.headers["x-request-id"]
            try:
                async for part in stream:
                    if leaves:
                        left.add(request_id)
                        await stream.close()
                        return
                    if part.usage is not None:
                        whole[request_id] = part.usage.completion_tokens
            except openai.APIError as error:
                assert error.code == "stream_broken"
                broken.add(request_id)

        async with simulator(*slow) as (port, process), simulator(*slow) as (other, _):
            state = agent_state(tmp_path / "agent", port, other)
            async with (
                gateway(tmp_path / "gateway", state) as running,
                openai.AsyncOpenAI(base_url=running.url + "/v1", api_key=SECRET, max_retries=0) as user,
            ):
                tasks = [asyncio.create_task(one(user, number, rng.random() < 0.2)) for number in range(60)]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                process.send_signal(signal.SIGKILL)
                await asyncio.gather(*tasks)
                records = await running.usage_of(60)
        assert [record.sequence for record in records] == list(range(1, 61))
        by_id = {record.request_id: record for record in records}
        assert by_id.keys() == whole.keys() | left | broken
        assert {name: by_id[name].output_tokens for name in whole} == whole
        assert {by_id[name].outcome for name in whole} == {"ok"}
        assert {by_id[name].outcome for name in broken} <= {"upstream_error"}
        # A client that leaves as its stream ends is gone for itself and served for us; as its replica dies, likewise.
        assert {by_id[name].outcome for name in left} <= {"client_gone", "ok", "upstream_error"}

    run(scenario())


def test_windows_are_spooled_at_the_end_and_carry_the_same_sums(tmp_path: Path) -> None:
    """A gateway that ends early still hands over its window; records and window agree."""

    async def scenario() -> None:
        async with simulator() as (port, _):
            state = agent_state(tmp_path / "agent", port)
            async with (
                gateway(tmp_path / "gateway", state) as running,
                openai.AsyncOpenAI(base_url=running.url + "/v1", api_key=SECRET, max_retries=0) as user,
            ):
                for _ in range(3):
                    await user.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=4)
                with contextlib.suppress(openai.NotFoundError):
                    await user.chat.completions.create(model="absent", messages=MESSAGES)
        batch = SpoolReader(tmp_path / "gateway" / "spool").pending(100)
        (window,) = batch.windows
        assert window.requests == len(batch.usage) == 3
        assert window.output_tokens == sum(record.output_tokens for record in batch.usage) == 12
        assert window.input_tokens == sum(record.input_tokens for record in batch.usage)
        assert sum(window.ttft.counts) == sum(window.duration.counts) == 3
        assert window.in_flight_max == 1
        assert window.errors == 0
        assert 0 < window.ended_at - window.started_at < WINDOW_S

    run(scenario())


def test_a_histograms_buckets_hold_what_their_bound_says() -> None:
    """A value lies in the first bucket whose bound is not below it; larger than all lies in the open one."""
    for value, bucket in (
        (0.0, 0),
        (0.001, 0),
        (0.0011, 1),
        (LATENCY_BUCKETS_S[-1] * 2, len(LATENCY_BUCKETS_S)),
    ):
        histogram = Histogram()
        histogram.observe(value, 3)
        assert histogram.counts[bucket] == 3


def test_what_no_answer_can_have_used_is_not_charged(tmp_path: Path) -> None:
    """An engine's faulty number must not take a tenant's limits for years, nor give them back."""

    async def scenario() -> None:
        said = b'{"usage":{"prompt_tokens":%d,"completion_tokens":%d,"seconds":-1}}'
        answers = [said % (10**30, -5), said % (-1, 10**12), said % (3, 4)]

        async def script(received: Received, reader: object, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer(answers.pop(0)))

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                for _ in range(3):
                    assert (await raw(running.port, post(b'{"model":"chat","messages":[]}'))).startswith(OK)
                records = await running.usage_of(3)
                told = [(each.input_tokens, each.output_tokens, each.audio_input_s) for each in records]
                assert told == [(0, 0, 0.0), (0, 0, 0.0), (3, 4, 0.0)]

    run(scenario())


def test_a_record_that_cannot_be_made_costs_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests of one turn are written down together, each for itself."""

    def fails(context: GatewayContext, done: Finished, figures: Figures) -> None:
        if done.request_id == "bad":
            raise ValueError("no record")
        record(context, done, figures)

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                ledger = running.process._context.ledger
                monkeypatch.setattr(Ledger, "write", lambda self: None)  # until all have come
                for name in ("one", "bad", "two"):
                    body = post(b'{"model":"chat","messages":[]}', headers=f"x-request-id: {name}\r\n")
                    assert (await raw(running.port, body)).startswith(OK)
                monkeypatch.undo()
                monkeypatch.setattr("workloadplane.gateway.ledger.record", fails)
                ledger.write()
                assert [each.request_id for each in await running.usage_of(2)] == ["one", "two"]

    run(scenario())


def test_what_a_busy_gateway_gathers_is_put_down_with_its_next_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few requests there are, they don't wait for more."""
    monkeypatch.setattr(Ledger, "_write_soon", lambda self: None)

    async def scenario() -> None:
        async with upstream(sends(json_answer(b"{}"))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with gateway(tmp_path / "gateway", state) as running:
                assert (await raw(running.port, post(b'{"model":"chat","messages":[]}'))).startswith(OK)
                assert len(await running.usage_of(1)) == 1

    run(scenario())
