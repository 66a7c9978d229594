"""LoRA adapters and KV events with real vLLM: slow, and only where its environment was made."""

import asyncio
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file

from infra.embedded import example_model
from tests.support.waiting import eventually_async
from workloadplane.agent.kv_listening import listen
from workloadplane.engines.base import EngineAdapter, EngineMetrics, EngineReplica
from workloadplane.engines.kv_events import KvCounts
from workloadplane.engines.vllm import ENGINE
from workloadplane.protocol.refusal import Refusal
from workloadplane.runtimes.base import ReplicaSpec, RunningReplica
from workloadplane.runtimes.process import ProcessRuntime

ENGINES_DIR = Path(__file__).parents[3] / ".engines"
VERSION = "0.32.0"
RANK = 8


def adapter(directory: Path, model_dir: Path, *, seed: int) -> str:
    """A random one for the example model's q_proj and v_proj, in PEFT's form; its ``source_uri``."""
    config = json.loads((model_dir / "config.json").read_text())
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    rows = {"q_proj": heads * head, "v_proj": config["num_key_value_heads"] * head}
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for module, width in rows.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{name}.lora_A.weight"] = random.normal(0, 1, (RANK, hidden)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = random.normal(0, 1, (width, RANK)).astype(np.float32)
    directory.mkdir()
    save_file(tensors, directory / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": sorted(rows), "bias": "none"}
    (directory / "adapter_config.json").write_text(json.dumps(told))
    return directory.as_uri()


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(
    isinstance(ENGINE.interpreter(ENGINES_DIR, VERSION), Refusal), reason="vLLM's environment was not made"
)
def test_vllm_serves_adapters_by_name_and_tells_of_its_cache(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Base and two adapters in one slot answer the same prompt differently and each the same again; what vLLM
    publishes of its KV cache is counted as stored.
    """
    assert pytestconfig.cache is not None
    cache_dir = pytestconfig.cache.mkdir("vllm")
    asyncio.run(asyncio.wait_for(_serve_once(tmp_path, cache_dir), ENGINE.start_timeout_s + 120))


async def _serve_once(tmp_path: Path, cache_dir: Path) -> None:
    model = example_model.ensure(tmp_path)
    model_dir = Path(model.source_uri.removeprefix("file://"))
    replica = EngineReplica(
        served_model="chat",
        source_uri=model.source_uri,
        precision="fp32",
        max_context_tokens=512,
        engine_version=VERSION,
        arguments={"max_num_seqs": "8", "enforce_eager": "true", "block_size": "32"},
        engine_key="key-of-this-replica",
        shutdown_timeout_s=5.0,
        adapters=tuple(
            EngineAdapter(
                served_model=f"chat:{name}",
                source_uri=adapter(tmp_path / name, model_dir, seed=seed),
                rank=RANK,
            )
            for seed, name in enumerate(("sql", "law"))
        ),
        adapter_slots=1,
    )
    spec = ReplicaSpec(replica_id="real-adapters", engine="vllm", replica=replica)
    counts = KvCounts()
    async with (
        ProcessRuntime(state_dir=tmp_path, engines_dir=ENGINES_DIR, cache_dir=cache_dir) as runtime,
        httpx.AsyncClient(headers={"authorization": "Bearer key-of-this-replica"}, timeout=120) as client,
    ):
        running = await runtime.start(spec)
        assert isinstance(running, RunningReplica), running
        listening = asyncio.create_task(listen(running.endpoint.kv_events, counts))
        try:
            await _is_ready(runtime, client, running)

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
        finally:
            listening.cancel()
            await runtime.stop(running.runtime_ref, grace_s=0)


async def _is_ready(runtime: ProcessRuntime, client: httpx.AsyncClient, running: RunningReplica) -> None:
    ended = asyncio.create_task(runtime.wait(running.runtime_ref))
    while not (await ENGINE.probe(client, running.endpoint, timeout_s=30)).ready:
        await asyncio.wait({ended}, timeout=0.5)
        assert not ended.done(), await runtime.log_tail(running.runtime_ref, max_bytes=6000)
    ended.cancel()
