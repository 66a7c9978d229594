"""Forms with a file: their model is found where it lies, nothing of the file is touched."""

import os
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gateway import AUTHORIZED, agent_state, gateway, json_answer, run, sends, upstream
from tests.support.tables import revision, route
from tests.workloadplane.gateway.test_peering import World
from workloadplane.gateway.errors import Failure
from workloadplane.gateway.multipart import Form, parse, with_model

HEARD = b'{"text":"hello","usage":{"type":"duration","seconds":9.5}}'
TYPE = b"multipart/form-data; boundary=edge"


def field(name: str, value: bytes, more: str = "") -> bytes:
    return f'--edge\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


END = b"--edge--\r\n"
FILE = '; filename="a.wav"\r\ncontent-type: audio/wav'


@given(st.binary(max_size=300), st.text(min_size=1, max_size=20).filter(lambda text: "edge" not in text))
def test_the_model_is_found_beside_any_file(content: bytes, model: str) -> None:
    """Whatever the file holds, also what looks like a field, the model alone is replaced."""
    content = content.replace(b"--edge", b"")
    content += b'\r\n--edg\r\ncontent-disposition: form-data; name="model"\r\n\r\nfalse\r\n'
    before, after = field("file", content, FILE), field("stream", b"true") + END
    form = parse(before + field("model", model.encode()) + after, TYPE)
    assert isinstance(form, Form)
    assert (form.body.model, form.body.stream) == (model, True)
    changed = with_model(before + field("model", model.encode()) + after, form.model_at, "other")
    assert changed == before + field("model", b"other") + after


@pytest.mark.parametrize(
    ("body", "content_type", "param"),
    [
        (b'{"model":"chat"}', b"application/json", "model"),
        (field("model", b"chat") + END, b"multipart/form-data", "model"),
        (field("file", b"x", FILE) + END, TYPE, "model"),
        (field("model", b"chat"), TYPE, None),
        (field("model", b"a") + field("model", b"b") + END, TYPE, None),
        (field("model", b"x" * 2000) + END, TYPE, None),
        (field("model", b"chat", FILE) + END, TYPE, "model"),
        (field("model", b"\xff") + END, TYPE, "model"),
        (b"".join(field(f"f{n}", b"") for n in range(100)) + field("model", b"chat") + END, TYPE, None),
        (b"rubbish", TYPE, None),
        (b"", TYPE, None),
        (field("model", b"chat") + END, None, "model"),
    ],
)
def test_a_form_that_does_not_say_its_model_once_is_refused(
    body: bytes, content_type: bytes | None, param: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says what to mend; nothing is guessed, and nothing of it is logged."""
    answer = parse(body, content_type)
    assert isinstance(answer, Failure)
    assert (answer.status, answer.param) == (400, param)
    assert not caplog.records


def test_a_form_passes_another_region_byte_for_byte(tmp_path: Path) -> None:
    """Both gateways read its model; the engine's name for it is put in where the engine is."""

    async def scenario() -> None:
        form = field("file", b"\r\n--edg" * 999, FILE) + field("model", b"chat") + END
        async with upstream(sends(json_answer(b'{"text":"hello"}'))) as engine, AsyncExitStack() as stack:
            world = World(tmp_path, stack)
            shared = [route(revisions=(revision(("c-us",)),))]
            await world.start("c-us", engine.port, routes=shared, peers=(world.peer("c-eu", 1),))
            near = await world.start("c-eu", routes=shared)
            async with httpx.AsyncClient(base_url=near.url, headers=AUTHORIZED) as client:
                headers = {"content-type": TYPE.decode()}
                url = "/v1/audio/translations"
                answer = await client.post(url, content=form, headers=headers)
                assert answer.headers["x-meridian-served-region"] == "us-east"
                assert answer.json() == {"text": "hello"}
                assert engine.received[0].body == form
                absent = form.replace(b"\r\nchat\r\n", b"\r\nother\r\n")
                refused = await client.post(url, content=absent, headers=headers)
                assert refused.json()["error"]["code"] == "model_not_found"

    run(scenario())


def test_a_recording_reaches_the_engine_byte_for_byte(tmp_path: Path) -> None:
    """Eight megabytes, unchanged, with their content type; the answer's text comes back."""

    async def scenario() -> None:
        recording = os.urandom(8 * 1024 * 1024)
        async with upstream(sends(json_answer(HEARD))) as engine:
            state = agent_state(tmp_path / "agent", engine.port)
            async with (
                gateway(tmp_path / "gateway", state) as running,
                httpx.AsyncClient(base_url=running.url, headers=AUTHORIZED) as client,
            ):
                request = client.build_request(
                    "POST",
                    "/v1/audio/transcriptions",
                    data={"model": "chat"},
                    files={"file": ("a.wav", recording, "audio/wav")},
                )
                sent = await request.aread()
                answer = await client.send(request)
                assert answer.content == HEARD
                (seen,) = engine.received
                assert seen.body == sent
                assert seen.headers["content-type"] == request.headers["content-type"]
                (record,) = await running.usage_of(1)
                assert (record.route, record.audio_input_s, record.output_tokens) == ("transcription", 9.5, 0)

    run(scenario())


def test_speech_is_counted_by_the_characters_that_were_spoken(tmp_path: Path) -> None:
    """Characters, not bytes; none for what the engine refused."""

    async def scenario() -> None:
        sound = b"HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ncontent-length: 4\r\n\r\nRIFF"
        async with upstream(sends(sound)) as engine, upstream(sends(json_answer(b"{}", "400 No"))) as other:
            for name, port, characters in (("a", engine.port, 6), ("b", other.port, 0)):
                state = agent_state(tmp_path / name, port)
                async with (
                    gateway(tmp_path / f"{name}-gateway", state) as running,
                    httpx.AsyncClient() as client,
                ):
                    body = b'{"model":"chat","input":"h\\u00e9llo\xf0\x9f\x98\x80","voice":"v"}'
                    await client.post(running.url + "/v1/audio/speech", content=body, headers=AUTHORIZED)
                    (record,) = await running.usage_of(1)
                    assert (record.route, record.input_characters) == ("speech", characters)

    run(scenario())
