"""`meridian top`: rates and quantiles from what gateways count."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from meridian.errors import ExitCode
from meridian.top import Reading, quantile, rows_between
from tests.support.gateway import AUTHORIZED, agent_state, gateway, json_answer, run, sends, upstream

MERIDIAN = Path(sys.executable).with_name("meridian")


def test_rows_tell_what_happened_between_two_readings() -> None:
    """Rates are over the time between; revisions of one deployment are one row; what lay before does not count."""
    registry = CollectorRegistry()
    labels = ["deployment_id", "revision_id"]
    tokens = Counter("gen_ai_server_tokens", "", [*labels, "type"], registry=registry)
    took = Histogram("gen_ai_server_request_duration_seconds", "", labels, registry=registry)
    for revision in ("one", "two"):
        took.labels("d", revision).observe(1.0)
        tokens.labels("d", revision, "input").inc(1000)
    before = Reading.of(generate_latest(registry).decode(), 10.0)
    for revision in ("one", "two"):
        took.labels("d", revision).observe(1.0)
        tokens.labels("d", revision, "input").inc(100)
        tokens.labels("d", revision, "cached").inc(25)
    (row,) = rows_between("here", before, Reading.of(generate_latest(registry).decode(), 14.0))
    assert (row.deployment_id, row.requests_per_s, row.input_tokens_per_s) == ("d", 0.5, 50.0)
    assert row.cached_share == pytest.approx(0.25)
    assert row.ttft_s_p50 is None


def test_a_gateway_that_began_anew_shows_what_it_did_since() -> None:
    """A counter that fell is no negative rate."""
    name = ("gen_ai_server_request_duration_seconds_count", "d", "")
    (row,) = rows_between("here", Reading(0.0, {name: 900.0}), Reading(2.0, {name: 4.0}))
    assert row.requests_per_s == 2.0


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        ({}, 0.5, None),
        ({1.0: 0.0, float("inf"): 0.0}, 0.5, None),
        ({1.0: 10.0, 2.0: 10.0, float("inf"): 10.0}, 0.5, 0.5),
        ({1.0: 0.0, 2.0: 10.0, float("inf"): 10.0}, 0.5, 1.5),
        ({1.0: 0.0, 2.0: 10.0, float("inf"): 20.0}, 0.99, 2.0),
    ],
)
def test_quantiles_lie_inside_their_bucket(
    buckets: dict[float, float], share: float, value: float | None
) -> None:
    """Linear inside; the open bucket tells its lower bound; nothing observed is nothing."""
    assert quantile(buckets, share) == (None if value is None else pytest.approx(value))


async def _top(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
        "MERIDIAN_API_URL": "http://127.0.0.1:9",
        "MERIDIAN_API_KEY": "mrd_test",
        "XDG_CONFIG_HOME": str(tmp_path),
    }

    def run_it() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [MERIDIAN, "top", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=60,
        )

    return await asyncio.to_thread(run_it)


def test_it_watches_a_gateway_without_a_control_plane(tmp_path: Path) -> None:
    """Requests that were sent while it watched are counted; a gateway that is away is named beside them."""

    async def scenario() -> None:
        answer = json_answer(
            b'{"choices":[{}],"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17}}'
        )
        async with upstream(sends(answer)) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with (
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            ):
                watching = asyncio.create_task(
                    _top(
                        tmp_path,
                        "--gateway",
                        running.url,
                        "--gateway",
                        "http://127.0.0.1:9",
                        *("-o", "json", "--interval", "3"),
                    )
                )
                sent = 0
                while not watching.done():
                    body = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}
                    sent += (await client.post("/v1/chat/completions", json=body)).status_code == 200
                    await asyncio.sleep(0.1)
                done = await watching
        assert done.returncode == ExitCode.OK, done.stderr
        told = json.loads(done.stdout)
        (row,) = told["deployments"]
        assert 0 < row["requests_per_s"] <= sent
        assert row["output_tokens_per_s"] == pytest.approx(7 * row["requests_per_s"])
        assert "does not answer" in told["unread"]["http://127.0.0.1:9"]

    run(scenario(), within_s=60)


def test_no_gateway_is_one_line(tmp_path: Path) -> None:
    """Where nothing answers it says which address, on one line, and ends as documented."""

    async def scenario() -> None:
        done = await _top(tmp_path, "--gateway", "http://127.0.0.1:9", "--once")
        assert done.returncode == ExitCode.UNREACHABLE
        assert "http://127.0.0.1:9 does not answer" in done.stderr
        assert len(done.stderr.splitlines()) == 1

    run(scenario(), within_s=60)
