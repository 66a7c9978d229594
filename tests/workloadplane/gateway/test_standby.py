"""A cluster that stands by is tested: one token now and then, over the way that requests take."""

import json
from pathlib import Path

import httpx

from tests.support.gateway import (
    AUTHORIZED,
    agent_state,
    gateway,
    json_answer,
    run,
    sends,
    upstream,
)
from tests.support.tables import revision, route
from tests.support.waiting import eventually_async

GOOD = json_answer(
    json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}).encode()
)
EMPTY = json_answer(
    json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}).encode()
)


def test_each_replica_of_a_standby_is_asked_in_turn(tmp_path: Path) -> None:
    """With the engine's own key, written down as class ``probe``, in no window; nobody is served by it all the same."""

    async def scenario() -> None:
        pair = route(posture="active_passive", revisions=(revision(("c-us", "c-eu")),))
        async with upstream(sends(GOOD)) as one, upstream(sends(GOOD)) as two:
            state = agent_state(tmp_path / "agent", one.port, two.port, routes=[pair])
            async with gateway(tmp_path / "gateway", state, standby_probe_s=0.05) as running:
                await eventually_async(lambda: len(one.received) > 1 and len(two.received) > 1)
                assert one.received[0].line == "POST /v1/completions HTTP/1.1"
                assert one.received[0].headers["authorization"] == "Bearer engine-secret"
                assert json.loads(one.received[0].body)["max_tokens"] == 1
                records = await running.usage_of(2)
                assert {record.replica_id for record in records[:2]} == {"replica-1", "replica-2"}
                for record in records:
                    assert (record.request_class, record.outcome, record.status) == ("probe", "ok", 200)
                    assert (record.input_tokens, record.output_tokens) == (3, 1)
                    assert (record.project_id, record.origin) == ("project-1", "eu-west")
                assert running.process._context.traffic.revisions == {}
                async with httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client:
                    told = (await client.get("/metrics")).text
                labels = '{deployment_id="project-1-chat",outcome="answered"}'
                assert f"meridian_gateway_standby_probes_total{labels}" in told

    run(scenario())


def test_a_standby_that_fails_its_tests_is_told_of(tmp_path: Path) -> None:
    """A fine page without a token is no answer. Its agent hears which replica is avoided."""

    async def scenario() -> None:
        pair = route(posture="active_passive", revisions=(revision(("c-us", "c-eu")),))
        async with upstream(sends(EMPTY)) as engine:
            state = agent_state(tmp_path / "agent", engine.port, routes=[pair])
            async with gateway(tmp_path / "gateway", state, standby_probe_s=0.05) as running:
                registry = running.process._context.registry
                await eventually_async(
                    lambda: "replica-1" in registry.ejections.ejected(registry.endpoints),
                    what="five failures in a row",
                )
                records = await running.usage_of(5)
                assert {(r.request_class, r.outcome, r.output_tokens) for r in records} == {
                    ("probe", "upstream_error", 0)
                }

    run(scenario())


def test_who_serves_is_not_probed(tmp_path: Path) -> None:
    """Clients test it; so they do where all regions serve."""

    async def scenario() -> None:
        routes = [
            route("first", posture="active_passive", revisions=(revision(("c-eu", "c-us")),)),
            route(revisions=(revision(("c-us", "c-eu")),)),
        ]
        async with upstream(sends(GOOD)) as engine:
            state = agent_state(tmp_path / "agent", engine.port, routes=routes)
            async with gateway(tmp_path / "gateway", state, standby_probe_s=0.01) as running:
                for _ in range(3):
                    running.process._standby.tick()
                async with httpx.AsyncClient(base_url=running.url) as client:
                    assert (await client.get("/livez")).status_code == 200
                assert engine.received == []

    run(scenario())
