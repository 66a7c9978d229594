"""`meridian explain`: a request's choices, from every gateway that made one."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx

from meridian.errors import ExitCode
from tests.support.gateway import AUTHORIZED, agent_state, gateway, json_answer, run, sends, upstream

MERIDIAN = Path(sys.executable).with_name("meridian")


async def _explain(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where no control plane answers."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
        "MERIDIAN_API_URL": "http://127.0.0.1:9",
        "MERIDIAN_API_KEY": "mrd_test",
        "XDG_CONFIG_HOME": str(home),
    }

    def run_it() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [MERIDIAN, "explain", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=home,
            timeout=60,
        )

    return await asyncio.to_thread(run_it)


def test_a_requests_choices_are_told_and_an_unknown_one_is_not_found(tmp_path: Path) -> None:
    """The gateway that chose tells, whichever it was; a gateway that is away hides nothing of the others."""

    async def scenario() -> None:
        async with upstream(sends(json_answer(b'{"choices":[{}]}'))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with (
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            ):
                body = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}
                answer = await client.post("/v1/chat/completions", json=body)
                asked = ("--gateway", "http://127.0.0.1:9", "--gateway", running.url)
                told = await _explain(tmp_path, answer.headers["x-request-id"], *asked, "-o", "json")
                table = await _explain(tmp_path, answer.headers["x-request-id"], *asked)
                unknown = await _explain(tmp_path, "../metrics", "--gateway", running.url)
                nobody = await _explain(tmp_path, "x", "--gateway", "http://127.0.0.1:9")
        assert told.returncode == ExitCode.OK, told.stderr
        (choice,) = json.loads(told.stdout)
        assert (choice["choice"], choice["gateway"]) == ("replica", running.url)
        assert choice["target"] == answer.headers["x-meridian-replica"]
        assert choice["reasons"] in table.stdout
        assert unknown.returncode == ExitCode.NOT_FOUND
        assert nobody.returncode == ExitCode.UNREACHABLE
        assert len(unknown.stderr.splitlines()) == len(nobody.stderr.splitlines()) == 1

    run(scenario(), within_s=60)
