"""Notices read from a file and over each provider's wire; in force until their source says that they are not."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.fake_metadata import FakeMetadata
from workloadplane.agent.notices import NoticeEndpoint, NoticeWatch, sources_of
from workloadplane.agent.notices.sources import FILE_BYTES_MAX, PROVIDERS, Provider


@pytest.fixture
def metadata() -> Iterator[FakeMetadata]:
    with FakeMetadata() as fake:
        yield fake


def watching(
    file: Path, endpoints: list[NoticeEndpoint], scenario: Callable[[NoticeWatch], Awaitable[None]]
) -> int:
    """Run a scenario with a watch; how often it was told of a change."""
    changes = []

    async def run() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            await scenario(
                NoticeWatch(
                    sources_of(file, endpoints, client), poll_s=0.01, on_change=lambda: changes.append(1)
                )
            )

    asyncio.run(run())
    return len(changes)


def at(metadata: FakeMetadata, provider: Provider) -> list[NoticeEndpoint]:
    return [NoticeEndpoint(provider=provider, pool="spot", node="node-1", url=metadata.url)]


def said(provider: Provider, metadata: FakeMetadata, *, taken: bool) -> None:
    """The provider takes the machine back, or does so no more."""
    in_120_s = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 120))
    metadata.aws_action = {"action": "terminate", "time": in_120_s} if taken else None
    metadata.gcp_preempted = "TRUE" if taken else "FALSE"
    event: dict[str, object] = {"EventType": "Preempt", "Resources": ["node-1"], "NotBefore": ""}
    metadata.azure_events = [event] if taken else []
    assert provider in PROVIDERS


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_takes_back_and_thinks_better_of_it(
    provider: Provider, metadata: FakeMetadata, tmp_path: Path
) -> None:
    """Seen once, with a deadline that does not slide; a service that is down takes nothing back."""

    async def scenario(watch: NoticeWatch) -> None:
        await watch.look()
        assert not watch.notices
        said(provider, metadata, taken=True)
        await watch.look()
        (notice,) = watch.notices
        assert (notice.pool, notice.node, notice.provider) == ("spot", "node-1", provider)
        (departure,) = watch.departures
        metadata.is_down = True
        await watch.look()
        metadata.is_down = False
        await watch.look()
        assert watch.departures == (departure,)
        said(provider, metadata, taken=False)
        await watch.look()
        assert not watch.notices

    assert watching(tmp_path / "none", at(metadata, provider), scenario) == 2


def test_a_token_that_is_over_is_asked_for_anew(metadata: FakeMetadata, tmp_path: Path) -> None:
    """Meanwhile nothing is taken back."""

    async def scenario(watch: NoticeWatch) -> None:
        said("aws", metadata, taken=True)
        await watch.look()
        metadata.token = "token-2"
        await watch.look()
        assert len(watch.notices) == 1
        await watch.look()
        assert len(watch.notices) == 1
        assert metadata.asked.count("/latest/api/token") == 2

    watching(tmp_path / "none", at(metadata, "aws"), scenario)


@pytest.mark.parametrize(
    "spoilt", [b"{", b'{"notices": [{"pool": "spot"}]}', b" " * (FILE_BYTES_MAX + 1), None]
)
def test_a_file_that_is_spoilt_changes_nothing(spoilt: bytes | None, tmp_path: Path) -> None:
    """Half-written, without a deadline, too long, no file at all; told in one line, and what was known stays."""
    file = tmp_path / "notices.json"
    good = json.dumps({"notices": [{"pool": "spot", "deadline_at": time.time() + 60}]}).encode()

    async def scenario(watch: NoticeWatch) -> None:
        file.write_bytes(good)
        await watch.look()
        (departure,) = watch.departures
        if spoilt is None:
            file.unlink()
            file.mkdir()
        else:
            file.write_bytes(spoilt)
        await watch.look()
        await watch.look()
        assert watch.departures == (departure,)
        if spoilt is None:
            file.rmdir()
        else:
            file.unlink()
        await watch.look()
        assert not watch.departures

    assert watching(file, [], scenario) == 2


def test_a_source_that_hangs_keeps_no_other_waiting(tmp_path: Path) -> None:
    """The file is read on while a metadata service accepts and never answers."""
    file = tmp_path / "notices.json"
    told = asyncio.Event()

    async def scenario() -> None:
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        silent = NoticeEndpoint(provider="aws", pool="spot", node=None, url=f"http://127.0.0.1:{port}")
        async with httpx.AsyncClient(trust_env=False) as client, server:
            sources = sources_of(file, [silent], client)
            watch = NoticeWatch(sources, poll_s=0.01, on_change=told.set)
            work = asyncio.create_task(watch.run())
            file.write_text(json.dumps({"notices": [{"pool": "spot", "deadline_at": time.time() + 60}]}))
            async with asyncio.timeout(30):
                await told.wait()
            assert len(watch.notices) == 1
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    asyncio.run(scenario())
