"""HTTP clients of the agent: httpx, with every failure of a connection one of httpx's own errors.

A connection that is reset in the moment in which it is made has no socket left to ask for its address, and the layers
below httpx answer with an AttributeError (seen with httpcore 1.0, anyio 4 and uvloop, as the control plane was
killed). Let through, that ends the agent.
"""

from typing import Any

import httpx


class _Transport(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except AttributeError as error:
            raise httpx.ConnectError(f"the connection ended while it was made ({error})") from error


def http_client(*, limits: httpx.Limits | None = None, **options: Any) -> httpx.AsyncClient:
    """A client that asks no proxy of the environment."""
    transport = _Transport(trust_env=False, limits=limits or httpx.Limits())
    return httpx.AsyncClient(transport=transport, trust_env=False, **options)
