"""Real vLLM on this machine, through the process runtime: slow, and only where its environment was made."""

import asyncio
import re
import time
from pathlib import Path

import httpx
import pytest

from infra.embedded import example_model
from workloadplane.engines.base import EngineMetrics, EngineReplica
from workloadplane.engines.vllm import ENGINE
from workloadplane.protocol.refusal import Refusal
from workloadplane.runtimes.base import ReplicaSpec, RunningReplica
from workloadplane.runtimes.process import ProcessRuntime

ENGINES_DIR = Path(__file__).parents[3] / ".engines"
VERSION = "0.32.0"


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(
    isinstance(ENGINE.interpreter(ENGINES_DIR, VERSION), Refusal), reason="vLLM's environment was not made"
)
def test_vllm_starts_answers_and_finishes_its_streams_on_sigterm(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Ready at a first token, phases that sum to the wall time, metrics, and a drain that loses no token."""
    assert pytestconfig.cache is not None
    # Compiled kernels are kept from run to run: the first start takes twice as long.
    cache_dir = pytestconfig.cache.mkdir("vllm")
    asyncio.run(asyncio.wait_for(_serve_once(tmp_path, cache_dir), ENGINE.start_timeout_s + 120))


async def _serve_once(tmp_path: Path, cache_dir: Path) -> None:
    model = example_model.ensure(tmp_path)
    replica = EngineReplica(
        served_model="chat",
        source_uri=model.source_uri,
        precision="bfloat16",
        max_context_tokens=512,
        engine_version=VERSION,
        arguments={"max_num_seqs": "8"},
        engine_key="key-of-this-replica",
        shutdown_timeout_s=60.0,
    )
    spec = ReplicaSpec(replica_id="real", engine="vllm", replica=replica)
    async with (
        ProcessRuntime(state_dir=tmp_path, engines_dir=ENGINES_DIR, cache_dir=cache_dir) as runtime,
        httpx.AsyncClient(headers={"authorization": "Bearer key-of-this-replica"}) as client,
    ):
        running = await runtime.start(spec)
        assert isinstance(running, RunningReplica), running
        try:
            await _is_ready(runtime, client, running)
            metrics = await ENGINE.scrape(client, running.endpoint)
            assert isinstance(metrics, EngineMetrics)
            assert metrics.generation_tokens_total == 1
            assert metrics.kv_capacity_tokens
            await _drains(runtime, client, running)
        finally:
            await runtime.stop(running.runtime_ref, grace_s=0)


async def _is_ready(runtime: ProcessRuntime, client: httpx.AsyncClient, running: RunningReplica) -> None:
    ended = asyncio.create_task(runtime.wait(running.runtime_ref))
    while not (await ENGINE.probe(client, running.endpoint, timeout_s=30)).ready:
        await asyncio.wait({ended}, timeout=0.5)
        assert not ended.done(), await runtime.log_tail(running.runtime_ref)
    ended.cancel()
    wall_s = time.time() - running.started_at
    phases = ENGINE.cold_start(await runtime.log_tail(running.runtime_ref, max_bytes=262144), wall_s=wall_s)
    assert phases.weight_load_s is not None
    assert phases.engine_start_s is not None
    assert phases.weight_load_s + phases.engine_start_s == pytest.approx(wall_s, rel=0.05)


async def _drains(runtime: ProcessRuntime, client: httpx.AsyncClient, running: RunningReplica) -> None:
    body = {
        "model": "chat",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 300,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    url = f"{running.endpoint.base_url}/v1/chat/completions"
    async with client.stream("POST", url, json=body, timeout=60) as answer:
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        await anext(lines)
        stopping = asyncio.create_task(runtime.stop(running.runtime_ref))
        received = [line async for line in lines if line]
    assert received[-1] == "data: [DONE]"
    usage = re.search(r'"completion_tokens":\s*(\d+)', received[-2])
    assert usage is not None
    assert usage[1] == "300"
    assert (await stopping).exit_code == 0
