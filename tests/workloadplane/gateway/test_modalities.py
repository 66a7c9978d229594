"""What a request holds, and who is asked with it."""

import json
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.support.gateway import AUTHORIZED, agent_state, gateway, json_answer, run, sends, upstream
from tests.support.tables import endpoint, revision, route
from workloadplane.gateway.modalities import held_in
from workloadplane.protocol.local import EndpointSet
from workloadplane.protocol.statefile import write_state

_PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def _said(*parts: object) -> list[object]:
    return [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, *parts]}]


@pytest.mark.parametrize(
    ("prompt", "held"),
    [
        ("a prompt", set()),
        ([1, 2, 3], set()),
        (_said(), set()),
        (_said(_PICTURE), {"image"}),
        (_said({"type": "image", "source": {"type": "base64", "data": "AAAA"}}), {"image"}),
        (_said({"type": "input_image", "image_url": "https://a/b"}), {"image"}),
        (_said({"type": "input_audio", "input_audio": {"data": "AAAA"}}), {"audio"}),
        (_said({"type": "audio_url"}, {"type": "video_url"}), {"audio", "video"}),
        (_said({"type": "tool_result", "content": [{"type": "image"}]}), {"image"}),
        ([{"type": "function_call_output", "output": [{"type": "input_image"}]}], {"image"}),
        (_said({"type": "tool_use", "input": {"type": "image", "path": "a.png"}}), set()),
        (_said({"type": "text", "text": '{"type": "image_url"}'}), set()),
        (_said({"type": "image_generation_call"}), set()),
        ([{"role": "assistant", "content": None}, {"content": {"type": "image"}}], set()),
    ],
)
def test_what_is_held_is_told_by_the_types_of_parts(prompt: object, held: set[str]) -> None:
    """In each API's words, also inside a tool's answer; never by a tool's arguments or by what a text says."""
    for separators in ((",", ":"), (" , ", " : ")):
        assert held_in(json.dumps(prompt, separators=separators).encode()) == {"text", *held}


def test_a_part_is_found_however_deep_and_depth_costs_nothing() -> None:
    """Nesting beyond what can be read is the engine's to refuse."""
    deep = b'[{"content":' * 5000 + b'[{"type":"image"}]' + b"}]" * 5000
    assert held_in(deep) == {"text"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"messages": _said(_PICTURE)}, "messages"),
        ("/v1/messages", {"messages": _said({"type": "image"}), "max_tokens": 1}, "messages"),
        ("/v1/responses", {"input": _said({"type": "input_image"})}, "input"),
    ],
)
def test_what_no_version_takes_is_refused_at_once(
    tmp_path: Path, path: str, body: dict[str, object], param: str
) -> None:
    """400 that names the member, what it holds and the remedy, though no replica runs that could say so."""

    async def scenario() -> None:
        told = route(revisions=(revision(("c-eu",), modalities=("text",)),), scale_to_zero=True)
        state = agent_state(tmp_path / "agent", routes=[told])
        async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
            answer = await client.post(running.url + path, json={"model": "chat", **body}, headers=AUTHORIZED)
            assert answer.status_code == 400
            assert "retry-after" not in answer.headers
            error = answer.json()["error"]
            assert error["message"] == (
                f"What is in {param} does not fit this model (holds image); leave it out, or use a model that"
                " takes it; this one takes text."
            )
            if path != "/v1/messages":
                assert (error["type"], error["code"]) == ("invalid_request_error", "unsupported_modality")
                assert error["param"] == param

    run(scenario())


def test_sound_goes_to_a_version_that_hears(tmp_path: Path) -> None:
    """A transcription is refused by a model of text, and the file is named; pictures find the new version."""

    async def scenario() -> None:
        ok = sends(json_answer(b'{"text":"x"}'))
        async with upstream(ok) as blind, upstream(ok) as seeing:
            old = revision(("c-eu",), weight=99, modalities=("text",))
            new = revision(("c-eu",), revision_id="chat-2", number=2, weight=1, modalities=("text", "image"))
            state = agent_state(tmp_path / "agent", routes=[route(revisions=(new, old))])
            replicas = (
                endpoint(blind.port),
                endpoint(seeing.port, replica_id="replica-2", revision_id="chat-2"),
            )
            told = EndpointSet(endpoint_generation=2, endpoints=replicas)
            write_state(state.directory / "endpoints.json", msgspec.json.encode(told))
            async with gateway(tmp_path / "gateway", state) as running, httpx.AsyncClient() as client:
                chat = running.url + "/v1/chat/completions"
                for _ in range(5):
                    body = {"model": "chat", "messages": _said(_PICTURE)}
                    assert (await client.post(chat, json=body, headers=AUTHORIZED)).status_code == 200
                assert (len(blind.received), len(seeing.received)) == (0, 5)
                heard = await client.post(
                    running.url + "/v1/audio/transcriptions",
                    data={"model": "chat"},
                    files={"file": b"RIFF"},
                    headers=AUTHORIZED,
                )
            assert (heard.status_code, heard.json()["error"]["param"]) == (400, "file")
            assert "holds audio" in heard.json()["error"]["message"]
            assert len(blind.received) + len(seeing.received) == 5

    run(scenario())
