"""Real vLLM on this machine, through the process runtime: slow, and only where its environment was made.

One engine for all of it, for each start takes most of a minute: its cold start, LoRA adapters, KV events, all that it
serves through a gateway, streams that break there, its end.
"""

import asyncio
import json
import random
import re
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file

from infra.embedded import example_model
from tests.support.real_vllm import ENGINES_DIR, IS_MISSING, KEY, VERSION
from tests.support.waiting import eventually_async
from tests.workloadplane.engines.breaking_streams import cut_streams_go_on, seats_are_taken_back
from tests.workloadplane.engines.real_routes import what_is_relayed_is_what_it_serves
from workloadplane.agent.kv_listening import listen
from workloadplane.engines.base import EngineAdapter, EngineMetrics, EngineReplica
from workloadplane.engines.kv_events import KvCounts
from workloadplane.engines.vllm import ENGINE
from workloadplane.runtimes.base import ReplicaSpec, RunningReplica
from workloadplane.runtimes.process import ProcessRuntime

RANK = 8
#: ``make test-long`` cuts more (``test_resume_for_real``).
CUTS = 10


def adapter(directory: Path, model_dir: Path, *, seed: int) -> str:
    """A random one for the example model's q_proj and v_proj, in PEFT's form; its ``source_uri``."""
    config = json.loads((model_dir / "config.json").read_text())
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    rows = {"q_proj": heads * head, "v_proj": config["num_key_value_heads"] * head}
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for module, width in rows.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{name}.lora_A.weight"] = rng.normal(0, 1, (RANK, hidden)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = rng.normal(0, 1, (width, RANK)).astype(np.float32)
    directory.mkdir()
    save_file(tensors, directory / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": sorted(rows), "bias": "none"}
    (directory / "adapter_config.json").write_text(json.dumps(told))
    return directory.as_uri()


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(IS_MISSING, reason="vLLM's environment was not made")
def test_vllm_starts_serves_what_is_asked_and_finishes_its_streams_on_sigterm(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Ready at a first token, phases that sum to the wall time, metrics, adapters, KV events, routes, streams that
    break and go on, and a drain that loses no token.
    """
    assert pytestconfig.cache is not None
    cache_dir = pytestconfig.cache.mkdir("vllm")
    asyncio.run(asyncio.wait_for(_serve_once(tmp_path, cache_dir), ENGINE.start_timeout_s + 300))


async def _serve_once(tmp_path: Path, cache_dir: Path) -> None:
    spec = ReplicaSpec(replica_id="real", engine="vllm", replica=_replica(tmp_path))
    counts = KvCounts()
    async with (
        ProcessRuntime(
            state_dir=tmp_path, engines_dir=_engines_dir(tmp_path), cache_dir=cache_dir
        ) as runtime,
        httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=120) as client,
    ):
        running = await runtime.start(spec)
        assert isinstance(running, RunningReplica), running
        listening = asyncio.create_task(listen(running.endpoint.kv_events, counts))
        try:
            await _is_ready(runtime, client, running)
            metrics = await ENGINE.scrape(client, running.endpoint)
            assert isinstance(metrics, EngineMetrics)
            assert metrics.generation_tokens_total == 1
            assert metrics.kv_capacity_tokens
            await _serves_adapters(client, running, counts)
            port = running.endpoint.port
            await what_is_relayed_is_what_it_serves(tmp_path, port)
            await cut_streams_go_on(tmp_path, port, random.Random(7), times=CUTS)
            await seats_are_taken_back(tmp_path, port)
            await _drains(runtime, client, running)
        finally:
            listening.cancel()
            await runtime.stop(running.runtime_ref, grace_s=0)


def _engines_dir(directory: Path) -> Path:
    """An image that has a memory of responses: by default vLLM has none, for it knows no bound."""
    made = directory / "engines"
    python = made / f"vllm-{VERSION}" / "bin" / "python"
    python.parent.mkdir(parents=True)
    real = ENGINES_DIR / f"vllm-{VERSION}" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nVLLM_ENABLE_RESPONSES_API_STORE=1 exec "{real}" "$@"\n')
    python.chmod(0o755)
    return made


def _replica(directory: Path) -> EngineReplica:
    """Two adapters for one slot. Kernels are not compiled: that the example of ``meridian up`` does."""
    model = example_model.ensure(directory)
    model_dir = Path(model.source_uri.removeprefix("file://"))
    return EngineReplica(
        served_model="chat",
        source_uri=model.source_uri,
        precision="fp32",
        max_context_tokens=512,
        engine_version=VERSION,
        arguments={
            "max_num_seqs": "8",
            "enforce_eager": "true",
            "block_size": "32",
            "enable_auto_tool_choice": "true",
            "tool_call_parser": "pythonic",
        },
        engine_key=KEY,
        shutdown_timeout_s=60.0,
        adapters=tuple(
            EngineAdapter(
                served_model=f"chat:{name}",
                source_uri=adapter(directory / name, model_dir, seed=seed),
                rank=RANK,
            )
            for seed, name in enumerate(("sql", "law"))
        ),
        adapter_slots=1,
    )


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


async def _serves_adapters(client: httpx.AsyncClient, running: RunningReplica, counts: KvCounts) -> None:
    """Base and two adapters in one slot answer the same prompt differently and each the same again; what vLLM
    publishes of its KV cache is counted as stored.
    """

    async def said(name: str) -> str:
        body = {"model": name, "prompt": "the river " * 40, "max_tokens": 12, "temperature": 0}
        response = await client.post(running.endpoint.base_url + "/v1/completions", json=body)
        assert response.status_code == 200, response.text
        return str(response.json()["choices"][0]["text"])

    names = ("chat", "chat:sql", "chat:law")
    first = [await said(name) for name in names]
    assert len(set(first)) == 3
    assert [await said(name) for name in names] == first
    await eventually_async(lambda: counts.stored_tokens > 0, what="stored blocks")
    metrics = await ENGINE.scrape(client, running.endpoint)
    assert isinstance(metrics, EngineMetrics)
    hits = metrics.prefix_cache_hits_total or 0
    assert hits > 0
    computed = (metrics.prompt_tokens_total or 0) + (metrics.generation_tokens_total or 0) - hits
    assert counts.stored_tokens <= computed
    assert counts.clears == 0


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
