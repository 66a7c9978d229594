"""TLS on both sides: clients, replicas and peers, with certificates that are renewed while streams run."""

import asyncio
import json
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from tests.support.certificates import Authority
from tests.support.gateway import (
    AUTHORIZED,
    SSE_HEAD,
    Received,
    agent_state,
    chunk,
    endpoints,
    gateway,
    json_answer,
    post,
    run,
    sends,
    upstream,
)
from tests.support.tables import AgentState
from tests.support.waiting import eventually_async
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.statefile import write_state

CHAT = {"model": "chat", "messages": []}
BODY = json.dumps(CHAT).encode()
URL = "/v1/chat/completions"


def trusting(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority)


def serving(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def over_tls(state: AgentState, port: int, name: str = "") -> AgentState:
    """The one replica of this state speaks TLS under this name."""
    told = endpoints(1, port)
    (replica,) = told.endpoints
    changed = EndpointSet(
        endpoint_generation=1, endpoints=(msgspec.structs.replace(replica, tls=True, tls_name=name),)
    )
    write_state(state.directory / "endpoints.json", msgspec.json.encode(changed))
    return state


async def serial(port: int, context: ssl.SSLContext, name: str | None) -> int:
    """Of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    shown = ssl.DER_cert_to_PEM_cert(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    writer.close()
    return hash(shown)


def test_clients_are_served_over_tls(tmp_path: Path) -> None:
    """Keep-alive, large bodies and streams work as without; what is no TLS gets no answer."""

    async def scenario() -> None:
        authority = Authority()
        trusted = trusting(authority.write_authority(tmp_path / "ca.pem"))
        certificate, key = authority.write(tmp_path / "tls", "localhost", "127.0.0.1")

        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            if b'"stream"' in received.body:
                writer.write(SSE_HEAD + chunk(b"data: 1\n\n") + chunk(b"data: [DONE]\n\n") + chunk(b""))
            else:
                writer.write(json_answer(b'{"length":%d}' % len(received.body)))

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            tls = {"tls_certificate": certificate, "tls_key": key}
            async with gateway(tmp_path / "gateway", state, tls=tls) as running:
                base = f"https://localhost:{running.port}"
                async with httpx.AsyncClient(base_url=base, verify=trusted) as client:
                    large = {**CHAT, "x": "a" * 3_000_000}
                    answer = await client.post(URL, json=large, headers=AUTHORIZED)
                    assert answer.json()["length"] > 3_000_000
                    streamed = await client.post(URL, json={**CHAT, "stream": True}, headers=AUTHORIZED)
                    assert streamed.content == b"data: 1\n\ndata: [DONE]\n\n"
                    assert (await client.get("/livez")).status_code == 200
                with pytest.raises(httpx.TransportError):
                    await httpx.AsyncClient().get(f"http://127.0.0.1:{running.port}/livez")
                with pytest.raises(httpx.ConnectError):
                    await httpx.AsyncClient().get(base + "/livez")  # trusts another authority

    run(scenario())


def test_a_renewed_certificate_costs_no_stream(tmp_path: Path) -> None:
    """New connections see the new one, with a server name or without; a half-written renewal changes nothing."""

    async def scenario() -> None:
        authority = Authority()
        trusted = trusting(authority.write_authority(tmp_path / "ca.pem"))
        certificate, key = authority.write(tmp_path / "tls", "localhost", "127.0.0.1")
        unnamed = trusting(tmp_path / "ca.pem")
        unnamed.check_hostname = False
        goes_on = asyncio.Event()

        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(SSE_HEAD + chunk(b"data: 1\n\n"))
            await goes_on.wait()
            writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))

        async with upstream(script) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            tls = {"tls_certificate": certificate, "tls_key": key}
            async with gateway(tmp_path / "gateway", state, tls=tls) as running:
                first = await serial(running.port, trusted, "localhost")
                assert await serial(running.port, unnamed, None) == first
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", running.port, ssl=trusted, server_hostname="localhost"
                )
                writer.write(post(b'{"model":"chat","stream":true}'))
                await reader.readuntil(b"data: 1\n\n")

                old = certificate.read_bytes(), key.read_bytes()
                with capture_logs() as said:
                    key.write_bytes(b"not yet")
                    await eventually_async(
                        lambda: any(line["event"] == "not put in force" for line in said),
                        what="the half renewal is noticed",
                    )
                assert await serial(running.port, trusted, "localhost") == first
                key.write_bytes(old[1])
                authority.write(tmp_path / "tls", "localhost", "127.0.0.1")

                async def renewed() -> bool:
                    return await serial(running.port, trusted, "localhost") != first

                await eventually_async(renewed, what="the new certificate is shown")
                assert await serial(running.port, unnamed, None) != first
                goes_on.set()
                rest = await reader.read()
                assert b"data: [DONE]\n\n" in rest
                assert rest.endswith(b"0\r\n\r\n")
                writer.close()

    run(scenario())


def test_replicas_are_verified(tmp_path: Path) -> None:
    """A replica over TLS is asked if its certificate is one of the authorities', for its name; else it gets no byte."""

    async def scenario() -> None:
        authority, stranger = Authority(), Authority("stranger")
        trusted = authority.write_authority(tmp_path / "ca.pem")
        cases = [
            (authority.write(tmp_path / "named", "engine.test"), "engine.test", trusted, 200),
            (authority.write(tmp_path / "address", "127.0.0.1"), "", trusted, 200),
            (authority.write(tmp_path / "other", "other.test"), "engine.test", trusted, 502),
            (stranger.write(tmp_path / "stranger", "engine.test"), "engine.test", trusted, 502),
            (authority.write(tmp_path / "system", "engine.test"), "engine.test", None, 502),
        ]
        for number, (files, name, trusts, status) in enumerate(cases):
            async with upstream(sends(json_answer(b"{}")), tls=serving(*files)) as engine:
                state = over_tls(agent_state(tmp_path / f"agent-{number}", engine.port), engine.port, name)
                async with (
                    gateway(
                        tmp_path / f"gateway-{number}", state, hold_timeout_s=0.5, tls={"tls_ca": trusts}
                    ) as running,
                    httpx.AsyncClient(base_url=running.url) as client,
                ):
                    answers = [
                        (await client.post(URL, json=CHAT, headers=AUTHORIZED)).status_code for _ in range(2)
                    ]
                    served = [code == 200 for code in answers]
                    assert served == [status == 200] * 2
                    assert len(engine.received) == (2 if status == 200 else 0)
                    if status == 200:
                        assert engine.connections == 1

    run(scenario())


def test_a_replica_over_tls_streams_and_is_cancelled(tmp_path: Path) -> None:
    """Large answers with back-pressure pass unchanged, and a client that leaves ends the engine's work."""

    async def scenario() -> None:
        authority = Authority()
        trusted = authority.write_authority(tmp_path / "ca.pem")
        files = authority.write(tmp_path / "tls", "127.0.0.1")
        large = bytes(range(256)) * 20_000

        async def script(
            received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            if b'"stream"' in received.body:
                writer.write(SSE_HEAD + chunk(b"data: 1\n\n"))
                await reader.readexactly(1)
            writer.write(json_answer(large).replace(b"application/json", b"audio/wav"))

        async with upstream(script, tls=serving(*files)) as engine:
            state = over_tls(agent_state(tmp_path / "agent", engine.port), engine.port)
            async with gateway(tmp_path / "gateway", state, tls={"tls_ca": trusted}) as running:
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=4096)
                writer.write(post(BODY))
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.read() == large
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                writer.write(post(b'{"model":"chat","stream":true}'))
                await reader.readuntil(b"data: 1\n\n")
                writer.close()
                await eventually_async(lambda: engine.hung_up >= 1, what="the engine is cancelled")

    run(scenario())


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        (["--tls-certificate", "x.pem"], 2, "--tls-key"),
        (["--tls-certificate", "x.pem", "--tls-key", "y.pem"], 1, "x.pem"),
        (["--tls-ca", "x.pem"], 1, "x.pem"),
    ],
)
def test_files_that_do_not_do_are_said_at_the_start(
    tmp_path: Path, given: list[str], status: int, said: str
) -> None:
    """Options that do not fit together, and files that are not there, end the program with one line."""
    directories = ["--agent-state-dir", str(tmp_path / "a"), "--state-dir", str(tmp_path / "b")]
    ended = subprocess.run(
        [sys.executable, "-m", "workloadplane.gateway", "--port", "0", *directories, *given],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == status
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
