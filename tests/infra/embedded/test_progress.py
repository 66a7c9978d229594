"""What a person and a program are told of a start."""

import io
import json
import shlex

import pytest
from rich.console import Console

from infra.embedded.bring_up import UpResult
from infra.embedded.layout import Layout
from infra.embedded.parts import World
from infra.embedded.ports import DEFAULT_PORTS
from infra.embedded.progress import Progress
from infra.embedded.summary import curl_line, lines

ENDPOINTS = {
    "console": "http://127.0.0.1:8800",
    "api": "http://127.0.0.1:8800",
    "edge": "http://127.0.0.1:8880",
    "gateways": {"eu-west-1": "http://127.0.0.1:8881", "us-east4": "http://127.0.0.1:8882"},
    "api_key": "mk_secret",
    "admin_user": "admin",
    "admin_password": "pass word",
}


def test_off_a_terminal_each_step_is_one_plain_line(layout: Layout) -> None:
    """Logs get a line a step, with its seconds and whether it failed; the file has the same as JSON."""
    output = io.StringIO()
    with Progress(Console(file=output, width=40)) as progress:
        with progress.step("PostgreSQL"):
            pass
        with pytest.raises(RuntimeError), progress.step("migrations"):
            raise RuntimeError
    told = output.getvalue().splitlines()
    assert [line.split()[:2] for line in told] == [["✓", "PostgreSQL"], ["✗", "migrations"]]
    assert "\x1b" not in output.getvalue()

    progress.write_timings(layout.timings, engine="simulator")
    written = json.loads(layout.timings.read_text())
    assert written["engine"] == "simulator"
    assert [phase["phase"] for phase in written["phases"]] == ["PostgreSQL", "migrations"]
    assert sum(phase["took_s"] for phase in written["phases"]) <= written["total_s"] + 0.05


def test_the_page_says_which_region_is_real_and_has_a_command_that_can_be_pasted(layout: Layout) -> None:
    """Login, addresses, key and the engines are on it; the curl line is one shell command with valid JSON."""
    world = World(layout, DEFAULT_PORTS, "vllm")
    page = "\n".join(lines(UpResult(world, ENDPOINTS, was_up=False)))
    for value in ("http://127.0.0.1:8800", "admin / pass word", "http://127.0.0.1:8880", "mk_secret"):
        assert value in page
    assert [line.split()[-1] for line in page.splitlines() if ":888" in line and "west" in line] == ["vLLM"]
    assert [line.split()[-1] for line in page.splitlines() if "us-east" in line] == ["simulator"]

    words = shlex.split(curl_line(ENDPOINTS))
    assert words[:3] == ["curl", "-N", "http://127.0.0.1:8880/v1/chat/completions"]
    assert "Authorization: Bearer mk_secret" in words
    assert json.loads(words[-1])["stream"] is True


def test_only_the_first_cluster_runs_the_real_engine_and_only_when_it_is_asked_for(layout: Layout) -> None:
    """Two cores carry one vLLM."""
    real = World(layout, DEFAULT_PORTS, "vllm")
    assert [real.engine_in(cluster) for cluster in ("eu-west", "us-east", "ap-northeast")] == [
        "vllm",
        "simulator",
        "simulator",
    ]
    assert World(layout, DEFAULT_PORTS, "simulator").engine_in("eu-west") == "simulator"
