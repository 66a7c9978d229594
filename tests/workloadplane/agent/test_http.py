"""The agent's HTTP client, where a connection ends in the moment in which it is made."""

import asyncio

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from workloadplane.agent.control import ControlClient, ControlError
from workloadplane.agent.http import http_client
from workloadplane.protocol import WIRE_VERSION
from workloadplane.protocol.sync import EnrolRequest


async def _gone(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
    """As the layers below httpx end where the socket is gone before they have asked for its address."""
    raise AttributeError("'NoneType' object has no attribute 'getpeername'")


def test_a_connection_that_is_gone_at_once_is_an_error_of_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks a replica sees what it handles: no answer."""
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", _gone)

    async def ask() -> None:
        async with http_client() as client:
            await client.get("http://127.0.0.1:1/health")

    with pytest.raises(httpx.ConnectError, match="ended while it was made"):
        asyncio.run(ask())


def test_a_call_home_that_is_cut_at_once_brought_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent goes on and calls again; it does not end."""
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", _gone)
    request = EnrolRequest(
        wire_version=WIRE_VERSION,
        token="token",
        public_key=b"",
        instance_id="agent-1",
        gateway_url="",
        agent_version="",
        proof=b"",
    )

    async def enrol() -> None:
        client = ControlClient("http://127.0.0.1:1", Ed25519PrivateKey.generate())
        try:
            await client.enrol(request)
        finally:
            await client.close()

    with pytest.raises(ControlError, match="ended while it was made"):
        asyncio.run(enrol())
