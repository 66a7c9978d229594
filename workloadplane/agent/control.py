"""The calls to the control plane, over one kept-alive HTTP connection.

What comes back is bounded, and every failure is a ``ControlError`` with one line: the caller waits and tries again.
"""

import base64
from typing import TypeVar

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from workloadplane.agent.http import http_client
from workloadplane.protocol.logs import LOGS_PATH, LogsRequest, LogsResponse, logs_signed_bytes
from workloadplane.protocol.sync import (
    ENROL_PATH,
    SYNC_PATH,
    EnrolRequest,
    EnrolResponse,
    SyncRequest,
    SyncResponse,
    sync_signed_bytes,
)

_RESPONSE_BYTES_MAX = 64 * 1024 * 1024
_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 15.0  # beyond what the control plane was asked to hold the answer


_Answer = TypeVar("_Answer", EnrolResponse, SyncResponse, LogsResponse)


class ControlError(Exception):
    """A call home that brought nothing. ``status`` is None when there was no answer at all."""

    def __init__(
        self, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class ControlClient:
    """Speaks to one control plane. An agent has one sync at a time, and may deliver logs beside it."""

    def __init__(self, control_url: str, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self._client = http_client(
            base_url=control_url.rstrip("/"), limits=httpx.Limits(max_connections=2, keepalive_expiry=60.0)
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def enrol(self, request: EnrolRequest) -> EnrolResponse:
        """Bind our key to the cluster the token was issued for. Raises ControlError."""
        body = msgspec.json.encode(request)
        answer = await self._post(ENROL_PATH, body, {}, timeout_s=_ANSWER_TIMEOUT_S)
        return _decoded(answer, EnrolResponse)

    async def sync(self, request: SyncRequest) -> SyncResponse:
        """Tell what happened, and hear what is new. Raises ControlError."""
        body = msgspec.json.encode(request)
        headers = self._signed(request.cluster_id, sync_signed_bytes(body))
        answer = await self._post(SYNC_PATH, body, headers, timeout_s=request.wait_s + _ANSWER_TIMEOUT_S)
        return _decoded(answer, SyncResponse)

    async def logs(self, request: LogsRequest) -> LogsResponse:
        """Deliver logs that are wanted, and hear which still are. Raises ControlError."""
        body = msgspec.json.encode(request)
        headers = self._signed(request.cluster_id, logs_signed_bytes(body))
        return _decoded(await self._post(LOGS_PATH, body, headers, timeout_s=_ANSWER_TIMEOUT_S), LogsResponse)

    def _signed(self, cluster_id: str, message: bytes) -> dict[str, str]:
        signature = self._private_key.sign(message)
        return {
            "x-meridian-cluster": cluster_id,
            "x-meridian-signature": base64.b64encode(signature).decode(),
        }

    async def _post(self, path: str, body: bytes, headers: dict[str, str], *, timeout_s: float) -> bytes:
        headers = {**headers, "content-type": "application/json", "accept": "application/json"}
        timeout = httpx.Timeout(timeout_s, connect=_CONNECT_TIMEOUT_S)
        received = bytearray()
        try:
            async with self._client.stream(
                "POST", path, content=body, headers=headers, timeout=timeout
            ) as response:
                async for chunk in response.aiter_bytes():
                    received += chunk
                    if len(received) > _RESPONSE_BYTES_MAX:
                        raise ControlError(f"{path}: the answer is over {_RESPONSE_BYTES_MAX} bytes")
        except httpx.HTTPError as error:
            raise ControlError(f"{path}: {type(error).__name__}: {error}") from error
        if response.status_code != httpx.codes.OK:
            raise ControlError(
                f"{path}: HTTP {response.status_code}: {_detail(bytes(received))}",
                status=response.status_code,
                retry_after_s=_seconds(response.headers.get("retry-after")),
            )
        return bytes(received)


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


def _decoded(answer: bytes, type_: type[_Answer]) -> _Answer:
    try:
        return msgspec.json.decode(answer, type=type_)
    except msgspec.DecodeError as error:
        raise ControlError(f"the answer is no {type_.__name__}: {str(error)[:200]}") from error


def _detail(body: bytes) -> str:
    try:
        problem = msgspec.json.decode(body[:65536], type=_Problem)
    except msgspec.DecodeError:
        return body[:200].decode(errors="replace")
    return (problem.detail or problem.title)[:300]


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and value.isdigit() else None
