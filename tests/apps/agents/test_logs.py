"""Logs on demand over the real wire: who may read, what is asked of agents, what is held."""

import asyncio
import base64
import json
import time
import uuid
from typing import Any

import httpx
import msgspec
import pytest
from asgiref.sync import sync_to_async

from apps.accounts.services import api_key_create
from apps.agents.models import LogLines, LogWatch
from apps.api.models import AuditEvent
from tests.apps.agents.world import ACTOR, Agent, delta, enrolled, fleet, observed_replica, placed, scenario
from workloadplane.protocol import WIRE_VERSION
from workloadplane.protocol.logs import LogChunk, LogsRequest, LogsResponse, logs_signed_bytes

pytestmark = pytest.mark.django_db(transaction=True)


def _key(project: Any, *scopes: str) -> dict[str, str]:
    key = api_key_create(actor=ACTOR, project_id=project.pk, name=str(uuid.uuid4()), scopes=list(scopes))[1]
    return {"authorization": f"Bearer {key}"}


async def _deliver(agent: Agent, *chunks: LogChunk, signed: bool = True, **changes: Any) -> httpx.Response:
    assert agent.identity is not None
    request = LogsRequest(
        wire_version=WIRE_VERSION,
        cluster_id=agent.identity.cluster_id,
        instance_id=agent.instance_id,
        cluster_epoch=agent.cluster_epoch,
        chunks=chunks,
    )
    body = msgspec.json.encode(msgspec.structs.replace(request, **changes))
    signature = agent.key.sign(logs_signed_bytes(body) if signed else body)
    headers = {
        "x-meridian-cluster": agent.identity.cluster_id,
        "x-meridian-signature": base64.b64encode(signature).decode(),
    }
    return await agent.http.post("/agent/v1/logs", content=body, headers=headers)


def _wanted(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    answer = msgspec.json.decode(response.content, type=LogsResponse)
    return [wanted.watch_id for wanted in answer.wanted]


def test_a_reading_wakes_the_agent_and_follows_by_cursor() -> None:
    """The held sync ends at once; lines come once each, harmless to a terminal; the reading is audited once."""
    project = fleet()
    assignment = placed(project, "chat", "eu-west")
    headers = _key(project, "deploy")
    replica = observed_replica(assignment, runtime_ref="process-7")

    async def run(http: httpx.AsyncClient) -> None:
        async def read(**query: Any) -> dict[str, Any]:
            answer = await http.get("/api/v1/deployments/chat/logs", params=query, headers=headers)
            assert answer.status_code == 200, answer.text
            document: dict[str, Any] = json.loads(answer.content)
            return document

        agent = await enrolled(http, project)
        await agent.sync(observed=delta(1, {"r": replica}))
        await agent.sync(logs_followed=False)
        poll = asyncio.create_task(agent.sync(wait_s=20.0, logs_followed=False))
        await asyncio.sleep(0)
        started = time.monotonic()
        first = await read()
        assert [row["delivery"] for row in first["replicas"]] == ["waiting"]
        (wanted,) = (await poll).logs_wanted
        assert wanted.runtime_ref == "process-7"
        assert time.monotonic() - started < 15, "not when the poll is over"
        started = time.monotonic()
        await agent.sync(wait_s=0.2)
        assert time.monotonic() - started >= 0.2, "an agent that knows no logs is not hurried"

        chunk = LogChunk(watch_id=wanted.watch_id, sequence=5, text="one\n\x1b[31mtwo\x1b[0m\x00\x07\n")
        assert _wanted(await _deliver(agent, chunk)) == [wanted.watch_id]
        await _deliver(agent, chunk)  # the answer was lost: it is sent again
        second = await read(after=first["cursor"])
        assert [item["text"] for item in second["items"]] == ["one\ntwo\n"]
        assert second["replicas"][0]["delivery"] == "delivered"
        assert (await read(after=second["cursor"]))["items"] == []
        assert [item["text"] for item in (await read(tail=1))["items"]] == ["two\n"]

        missing = LogChunk(watch_id=wanted.watch_id, sequence=6, text="", kept=False)
        await _deliver(agent, missing)
        assert (await read())["replicas"][0]["delivery"] == "no_log"
        audited = await sync_to_async(AuditEvent.objects.filter(action="logs_read").count)()
        assert audited == 1

        await sync_to_async(LogWatch.objects.update)(wanted_until="2020-01-01T00:00:00Z")
        assert _wanted(await _deliver(agent, chunk)) == [], "nobody reads any more"

    scenario(run)


def test_only_who_holds_the_cluster_delivers_and_little_is_held() -> None:
    """A forged signature is refused, another cluster's agent and another instance are not heard."""
    project = fleet()
    replica = observed_replica(placed(project, "chat", "eu-west"))
    headers = _key(project, "deploy")

    async def run(http: httpx.AsyncClient) -> None:
        agent = await enrolled(http, project)
        stranger = await enrolled(http, project, "us-east")
        await agent.sync(observed=delta(1, {"r": replica}))
        await http.get("/api/v1/deployments/chat/logs", headers=headers)
        watch = await sync_to_async(LogWatch.objects.get)()
        chunk = LogChunk(watch_id=str(watch.pk), sequence=1, text="forged\n")
        assert (await _deliver(agent, chunk, signed=False)).status_code == 401
        assert (await _deliver(agent, cluster_id=str(uuid.uuid4()))).status_code == 400
        assert _wanted(await _deliver(stranger, chunk)) == []
        assert _wanted(await _deliver(agent, chunk, instance_id="another")) == []
        assert await sync_to_async(LogLines.objects.count)() == 0
        for sequence in range(1, 40):
            line = LogChunk(watch_id=str(watch.pk), sequence=sequence, text=f"{sequence}\n")
            await _deliver(agent, line, LogChunk(watch_id="no watch", sequence=1, text="x"))
        assert await sync_to_async(LogLines.objects.count)() == 32

    scenario(run)


def test_what_cannot_be_read_is_said() -> None:
    """Other tenants and unknown replicas 404, too little right 403, bad parameters 400, an agent away by name."""
    project = fleet()
    other = fleet("other", ("eu-north",))
    replica = observed_replica(placed(project, "chat", "eu-west"))

    headers, reads, strange = _key(project, "deploy"), _key(project, "read"), _key(other, "deploy")

    async def run(http: httpx.AsyncClient) -> None:
        async def status(headers: dict[str, str], **query: Any) -> int:
            return (
                await http.get("/api/v1/deployments/chat/logs", params=query, headers=headers)
            ).status_code

        agent = await enrolled(http, project)
        await agent.sync(observed=delta(1, {"r": replica}))
        assert await status(strange) == 404
        assert await status(reads) == 403
        assert await status(headers, replica=str(uuid.uuid4())) == 404
        for query in ({"replica": "x"}, {"after": "-1"}, {"after": 2**64}, {"tail": "all"}, {"since": "1h"}):
            assert await status(headers, **query) == 400, query
        assert await sync_to_async(LogWatch.objects.count)() == 0
        await sync_to_async(_end_leases)()
        answer = await http.get(
            "/api/v1/deployments/chat/logs",
            params={"replica": replica.replica_id[:8].upper()},
            headers=headers,
        )
        (source,) = answer.json()["replicas"]
        assert (source["cluster"], source["delivery"]) == ("eu-west", "agent_away")

    scenario(run)


def _end_leases() -> None:
    from apps.agents.models import AgentSession

    AgentSession.objects.update(lease_expires_at="2020-01-01T00:00:00Z")
