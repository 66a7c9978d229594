"""Where notices are read: a file, and the metadata services of providers over their own wire.

``read`` gives what is in force, ``()`` for nothing, and None for "can't tell": what was known then stays.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

import httpx
import structlog

from workloadplane.agent.notices.parsing import (
    Place,
    aws_notices,
    azure_notices,
    file_notices,
    gcp_notices,
)
from workloadplane.protocol.observed import Notice
from workloadplane.protocol.refusal import Refusal

_log = structlog.get_logger(__name__)

Provider = Literal["aws", "gcp", "azure"]
PROVIDERS: Final[tuple[Provider, ...]] = ("aws", "gcp", "azure")
FILE_BYTES_MAX: Final = 64 * 1024
_ANSWER_BYTES_MAX: Final = 64 * 1024
#: A metadata service is on the same machine. Google's and Amazon's tokens and answers come within milliseconds.
_TIMEOUT_S: Final = 1.0
_TOKEN_S: Final = 21600


class Source(Protocol):
    """One place in which notices appear."""

    name: str

    async def read(self) -> tuple[Notice, ...] | None:
        """What is in force there now; None where that can't be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeEndpoint:
    """A metadata service, as the command line has it. ``node`` None: its pool is one machine, or answers name it."""

    provider: Provider
    pool: str
    node: str | None
    url: str


def sources_of(file: Path, endpoints: Iterable[NoticeEndpoint], client: httpx.AsyncClient) -> list[Source]:
    """All that an agent is to look at."""
    kinds: dict[Provider, type[AwsSource | GcpSource | AzureSource]] = {
        "aws": AwsSource,
        "gcp": GcpSource,
        "azure": AzureSource,
    }
    return [FileSource(file), *(kinds[each.provider](each, client) for each in endpoints)]


@dataclass(slots=True)
class _Doubts:
    """What can't be read is said once, and again when it is something else."""

    last: str = ""

    def tell(self, source: str, reason: str) -> None:
        if reason != self.last:
            _log.warning("notices not read: what was known stays", source=source, reason=reason)
        self.last = reason

    def over(self) -> None:
        self.last = ""


@dataclass(slots=True)
class FileSource:
    """A JSON file that somebody writes and removes again. One that is not there says that nothing vanishes."""

    path: Path
    name: str = field(init=False, default="notice file")
    _doubts: _Doubts = field(default_factory=_Doubts)

    async def read(self) -> tuple[Notice, ...] | None:
        try:
            content = await asyncio.to_thread(_file_content, self.path)
        except OSError as error:
            self._doubts.tell(str(self.path), str(error))
            return None
        if content is None:
            self._doubts.over()
            return ()
        if len(content) > FILE_BYTES_MAX:
            self._doubts.tell(str(self.path), f"it has more than {FILE_BYTES_MAX} bytes")
            return None
        notices = file_notices(content)
        if isinstance(notices, Refusal):
            self._doubts.tell(str(self.path), str(notices))
            return None
        self._doubts.over()
        return notices


def _file_content(path: Path) -> bytes | None:
    """Up to one byte more than is taken; None if there is no file. Raises OSError."""
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None


class _Metadata(ABC):
    """What the services have in common. ``seen_at``: when the notice in force was first seen."""

    def __init__(self, endpoint: NoticeEndpoint, client: httpx.AsyncClient) -> None:
        self.name = f"{endpoint.provider} metadata at {endpoint.url}"
        self._url = endpoint.url
        self._place = Place(endpoint.pool, endpoint.node)
        self._client = client
        self._doubts = _Doubts()
        self._seen_at: float | None = None

    async def read(self) -> tuple[Notice, ...] | None:
        """See ``Source``."""
        seen_at = time.time() if self._seen_at is None else self._seen_at
        try:
            notices = await self._ask(seen_at)
        except (httpx.HTTPError, ValueError) as error:
            self._doubts.tell(self.name, f"{type(error).__name__}: {error}"[:200])
            return None
        if isinstance(notices, Refusal):
            self._doubts.tell(self.name, str(notices))
            return None
        self._doubts.over()
        self._seen_at = seen_at if notices else None
        return notices

    @abstractmethod
    async def _ask(self, seen_at: float) -> tuple[Notice, ...] | Refusal:
        """Raises httpx.HTTPError or ValueError where no answer came that says anything."""

    async def _get(self, path: str, headers: Mapping[str, str], *, method: str = "GET") -> tuple[int, bytes]:
        """Status and body, for these statuses alone: others tell nothing. Raises httpx.HTTPError, ValueError."""
        body = b""
        async with self._client.stream(
            method, self._url + path, headers=dict(headers), timeout=_TIMEOUT_S
        ) as answer:
            if answer.status_code not in (200, 401, 404):
                raise ValueError(f"{path} answered {answer.status_code}")
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > _ANSWER_BYTES_MAX:
                    raise ValueError(f"{path} answered more than {_ANSWER_BYTES_MAX} bytes")
            return answer.status_code, body


class AwsSource(_Metadata):
    """The instance metadata service of AWS, version 2: a token first, then 404 until the instance is taken back."""

    def __init__(self, endpoint: NoticeEndpoint, client: httpx.AsyncClient) -> None:
        super().__init__(endpoint, client)
        self._token = ""

    async def _ask(self, seen_at: float) -> tuple[Notice, ...] | Refusal:
        if not self._token:
            wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_S)}
            status, token = await self._get("/latest/api/token", wanted, method="PUT")
            if status != 200:
                raise ValueError(f"no token was given: {status}")
            self._token = token.decode("ascii")
        shown = {"X-aws-ec2-metadata-token": self._token}
        status, body = await self._get("/latest/meta-data/spot/instance-action", shown)
        if status == 401:
            self._token = ""
            raise ValueError("its token is over")
        return () if status == 404 else aws_notices(body, self._place, seen_at=seen_at)


class GcpSource(_Metadata):
    """The metadata server of Google Cloud."""

    async def _ask(self, seen_at: float) -> tuple[Notice, ...] | Refusal:
        answers = []
        for key in ("preempted", "maintenance-event"):
            path = f"/computeMetadata/v1/instance/{key}"
            status, body = await self._get(path, {"Metadata-Flavor": "Google"})
            if status != 200:
                raise ValueError(f"{path} answered {status}")
            answers.append(body)
        return gcp_notices(answers[0], answers[1], self._place, seen_at=seen_at)


class AzureSource(_Metadata):
    """The scheduled events of Azure's instance metadata service."""

    async def _ask(self, seen_at: float) -> tuple[Notice, ...] | Refusal:
        path = "/metadata/scheduledevents?api-version=2020-07-01"
        status, body = await self._get(path, {"Metadata": "true"})
        if status != 200:
            raise ValueError(f"{path} answered {status}")
        return azure_notices(body, self._place, seen_at=seen_at)
