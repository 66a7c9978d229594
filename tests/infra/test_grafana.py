"""The dashboard asks only for what a gateway tells."""

import json
import re
from pathlib import Path

import httpx

from tests.support.gateway import agent_state, gateway, run

DASHBOARD = Path(__file__).parents[2] / "infra" / "grafana" / "gateway.json"


def test_every_metric_of_the_dashboard_exists(tmp_path: Path) -> None:
    """Every name in an expression is one in a real ``/metrics``, and nearly all that is told is shown."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    expressions += [
        variable["query"]["query"]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]
    asked = {name for each in expressions for name in re.findall(r"\b(?:meridian|gen_ai)_\w+", each)}
    told: set[str] = set()

    async def scenario() -> None:
        state = agent_state(tmp_path / "agent")
        async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
            text = (await client.get(running.url + "/metrics")).text
        for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE):
            told.add(f"{name}_bucket" if kind == "histogram" else name)

    run(scenario())
    assert asked == told
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["description"] for panel in panels)
