"""``/metrics`` tells how each deployment fares, in labels that no client can multiply."""

import asyncio
import re
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway import AUTHORIZED, agent_state, gateway, json_answer, run, sends, upstream
from tests.support.tables import api_key
from workloadplane.gateway.metrics import Counters
from workloadplane.protocol.refusal import Refusal
from workloadplane.protocol.routing import RateLimits
from workloadplane.routing import ToReplica

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
DEPLOYMENT = "project-1-chat"
ANSWER = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def read(client: httpx.AsyncClient) -> Samples:
    """Every sample of a ``/metrics``, by name and labels."""
    text = (await client.get("/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples that have these labels, whatever else they have."""
    return sum(
        figure
        for (each, told), figure in samples.items()
        if each == name and labels.items() <= dict(told).items()
    )


def test_clients_names_and_paths_are_no_labels(tmp_path: Path) -> None:
    """A thousand models and paths, and other things that clients made up, add nothing beyond the first of each."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(ANSWER))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with (
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED, timeout=30) as client,
            ):

                async def strange(number: int) -> None:
                    odd = f"odd-{number}"
                    chat = "/v1/chat/completions"
                    await client.post(chat, json=CHAT | {"model": odd})
                    await client.post(f"/v1/{odd}", json=CHAT)
                    if number > 50:
                        return
                    await client.post(chat, json=CHAT, headers={"x-meridian-priority": odd})
                    await client.post(chat, json=CHAT | {"service_tier": odd}, headers={"x-request-id": odd})
                    await client.request(odd.upper(), f"/{odd}")
                    await client.get(f"/v1/models/{odd}")
                    await client.get(f"/debug/explain/{odd}")
                    await client.post(chat, json=CHAT, headers={"authorization": f"Bearer {odd}"})

                await strange(1)
                before = await read(client)
                for start in range(2, 1002, 50):
                    await asyncio.gather(*(strange(start + each) for each in range(50)))
                after = await read(client)
        assert after.keys() == before.keys()
        assert value(after, "meridian_gateway_requests_total") > 2000

    run(scenario(), within_s=120)


def test_a_deployments_figures(tmp_path: Path) -> None:
    """Requests by class, picks by reason, what of prompts was known, limits met, replicas that are ready."""

    async def scenario() -> None:
        async with (
            upstream(sends(json_answer(ANSWER))) as first,
            upstream(sends(json_answer(ANSWER))) as second,
        ):
            limited = api_key("sk-test", limits=RateLimits(requests_per_minute=3))
            state = agent_state(tmp_path / "agent", first.port, second.port, keys=[limited])
            async with (
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            ):
                long = CHAT | {"messages": [{"role": "user", "content": "word " * 2000}]}
                low = {"x-meridian-priority": "low"}
                for _ in range(4):
                    await client.post("/v1/chat/completions", json=long, headers=low)
                samples = await read(client)
        of = {"deployment_id": DEPLOYMENT}
        prefix = "meridian_gateway_"
        finished = value(samples, prefix + "requests_total", **of, route="chat", priority="low", status="200")
        assert finished == 3
        for name in ("gen_ai_server_request_duration_seconds", prefix + "queue_seconds"):
            assert value(samples, name + "_count", **of, priority="low") == 3
            assert value(samples, name + "_count", **of) == 3
        assert value(samples, "gen_ai_server_tokens_total", **of, priority="low") > 0
        assert value(samples, prefix + "picks_total", **of, choice="replica") == 3
        assert value(samples, prefix + "picks_total", **of, reason="bytes known") == 2
        sent = value(samples, prefix + "prompt_bytes_total", **of)
        known = value(samples, prefix + "prefix_known_bytes_total", **of)
        assert sent > 30_000
        assert 0.5 < known / sent < 0.7
        assert value(samples, prefix + "rate_limit_refusals_total", **of, rule="requests") == 1
        assert value(samples, prefix + "queue_refusals_total", **of) == 0
        assert value(samples, prefix + "ready_replicas", **of) == 2
        assert value(samples, prefix + "ejected_replicas", **of) == 0
        assert value(samples, prefix + "waiting_requests", **of) == 0
        assert (prefix + "spans_lost", frozenset()) in samples

    run(scenario())


def test_the_table_for_operators_names_what_there_is(tmp_path: Path) -> None:
    """Every metric that the documentation names is told, also while nothing has happened."""
    table = OPERATIONS.read_text().split("### Metrics of a gateway")[1].split("\n### ")[0]
    named = set(re.findall(r"(?:meridian_gateway|gen_ai_server)_[a-z_]+[a-z]", table))

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent")
        async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
            text = (await client.get(running.url + "/metrics")).text
        families = {family.name for family in text_string_to_metric_families(text)}
        assert {name.removesuffix("_total") for name in named} <= families

    assert len(named) > 15
    run(scenario())


def test_deployments_that_are_gone_are_forgotten() -> None:
    """Counts stay as long as their deployment, and those of no deployment stay."""
    counters = Counters()
    for name in ("kept", "gone"):
        counters.to_replica(name, ToReplica("r", ("only",), 5), 10)
        counters.picked(name, "refuse", Refusal(rule="lease", subject="s", value="v", remedy="r"))
    counters.requests["", "none", "", "404", "refused"] += 1
    counters.keep_only({"kept"})
    assert set(counters.picks) == {("kept", "replica", "only"), ("kept", "lease", "")}
    assert set(counters.prompt_bytes) == {("kept",)}
    assert counters.requests.total() == 1
