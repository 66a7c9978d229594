"""``model: "<deployment>:<adapter>"`` from the client to the engine, with simulated engines as real processes."""

from contextlib import ExitStack
from pathlib import Path

import httpx
import msgspec

from tests.support.gateway import AUTHORIZED, agent_state, gateway, run
from tests.support.simulators import KEY, simulator
from tests.support.tables import endpoint, revision, route
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.statefile import write_state


def test_an_adapter_is_asked_for_by_name_and_stays_where_it_is_loaded(tmp_path: Path) -> None:
    """It answers as another model than its base, each adapter from one replica; an unknown one is a 404; the list of
    models has them.
    """

    async def scenario() -> None:
        with ExitStack() as stack:
            arguments = ("--adapter=chat:sql", "--adapter=chat:law", "--max-loras=1", "--max-num-seqs=64")
            engines = [stack.enter_context(simulator(*arguments)) for _ in range(2)]
            made = route(adapters=("law", "sql"), revisions=(revision(("c-eu",)),))
            state = agent_state(tmp_path / "agent", routes=[made])
            endpoints = EndpointSet(
                endpoint_generation=1,
                endpoints=tuple(
                    msgspec.structs.replace(
                        endpoint(engine.port, replica_id=f"r{n}", adapters=("law", "sql"), adapter_slots=1),
                        engine_key=KEY,
                    )
                    for n, engine in enumerate(engines)
                ),
            )
            write_state(state.directory / "endpoints.json", msgspec.json.encode(endpoints))
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:

                async def ask(model: str, number: int = 0) -> httpx.Response:
                    body = {
                        "model": model,
                        "messages": [{"role": "user", "content": f"question {number}"}],
                        "max_tokens": 8,
                        "temperature": 0,
                    }
                    return await client.post(
                        running.url + "/v1/chat/completions", json=body, headers=AUTHORIZED
                    )

                answers = {}
                homes: dict[str, set[str]] = {}
                for number in range(24):
                    model = ("chat:sql", "chat:law")[number % 2]
                    response = await ask(model, number)
                    assert response.status_code == 200, response.text
                    homes.setdefault(model, set()).add(response.headers["x-meridian-replica"])
                    if number < 2:
                        answers[model] = (await ask(model)).json()["choices"][0]["message"]["content"]
                answers["chat"] = (await ask("chat")).json()["choices"][0]["message"]["content"]
                assert len(set(answers.values())) == 3
                assert {len(home) for home in homes.values()} == {1}
                assert homes["chat:sql"] != homes["chat:law"], "one slot each: they do not share a replica"

                unknown = await ask("chat:poems")
                assert unknown.status_code == 404
                assert unknown.json()["error"]["code"] == "model_not_found"
                models = (await client.get(running.url + "/v1/models", headers=AUTHORIZED)).json()["data"]
                assert [(m["id"], m.get("parent")) for m in models] == [
                    ("chat", None), ("chat:law", "chat"), ("chat:sql", "chat")
                ]  # fmt: skip
                one = await client.get(running.url + "/v1/models/chat%3Asql", headers=AUTHORIZED)
                assert one.json()["id"] == "chat:sql"
                loads = [
                    float(line.split()[-1])
                    for engine in engines
                    for line in (
                        await client.get(engine.url + "/metrics", headers=engine.headers)
                    ).text.splitlines()
                    if line.startswith("simulator:adapter_loads_total")
                ]
                assert loads == [1.0, 1.0], "each was loaded once"

    run(scenario())
