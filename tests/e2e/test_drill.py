"""A region is lost on purpose, as a user orders it, while clients ask as ever."""

import threading

import openai
import pytest

from tests.e2e.system import System
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

REGION, CLUSTER = "us-east4", "us-east"


def test_a_region_is_lost_and_returns_and_no_client_sees_an_error(system: System) -> None:
    """Its processes are killed; the report keeps what the certificate promised; all is back afterwards."""
    errors: list[str] = []
    over = threading.Event()
    client = system.openai(max_retries=2)

    def ask() -> None:
        while not over.wait(0.05):
            try:
                client.chat.completions.create(
                    model="chat", messages=[{"role": "user", "content": "Hello"}], max_tokens=4
                )
            except openai.OpenAIError as error:
                errors.append(repr(error))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    quick = ("--before", "1", "--for", "3", "--settle", "1", "--rate", "5", "--ttft-limit", "60")
    done = system.command("drill", "run", "lose-region", REGION, "--deployment", "chat", *quick, within_s=120)
    over.set()
    asking.join(60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "promise for chat: plan" in done.stdout
    assert "As promised by plan" in done.stdout
    assert errors == []
    eventually(
        lambda: any(r["cluster"] == CLUSTER and r["state"] == "ready" for r in system.replicas("chat")),
        within_s=60,
        what="the region serves again",
    )
    eventually(
        lambda: all(r["state"] == "healthy" for r in system.regions()), within_s=60, what="and is trusted"
    )
