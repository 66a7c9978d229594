"""The simulated engine as a process, spoken to over real sockets."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.support.simulators import KEY, Simulator, simulator
from tests.support.waiting import eventually
from workloadplane.engines.openai_http import read_vllm_metrics

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "Tell me of the sea"}]}
SLOW = ("--decode-step-s=0.05",)


@pytest.fixture(scope="module")
def quick() -> Iterator[Simulator]:
    with simulator("--decode-step-s=0.001", "--max-model-len=4096") as running:
        yield running


def post(running: Simulator, path: str, body: Any, **options: Any) -> httpx.Response:
    return httpx.post(running.url + path, json=body, headers=running.headers, timeout=10, **options)


def metrics(running: Simulator) -> Any:
    return read_vllm_metrics(httpx.get(running.url + "/metrics", timeout=5).text)


def set_faults(running: Simulator, **faults: Any) -> httpx.Response:
    return httpx.put(f"{running.url}/simulator/faults", json=faults, headers=running.headers, timeout=5)


def read_until_closed(connection: socket.socket) -> bytes:
    received = []
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received.append(data)
    return b"".join(received)


def raw_request(body: dict[str, Any], path: str = "/v1/chat/completions", *, close: bool = True) -> bytes:
    encoded = json.dumps(body).encode()
    end = "close" if close else "keep-alive"
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: {end}\r\n"
        f"content-length: {len(encoded)}\r\n\r\n"
    )
    return head.encode() + encoded


def test_the_openai_sdk_streams_chats_and_embeds(quick: Simulator) -> None:
    """The unchanged SDK: models, a whole answer, the same as a stream with usage, and embeddings."""
    client = OpenAI(base_url=f"{quick.url}/v1", api_key=KEY, max_retries=0)
    assert [model.id for model in client.models.list()] == ["chat"]
    messages: Any = CHAT["messages"]
    whole = client.chat.completions.create(model="chat", messages=messages, max_tokens=30)
    chunks = list(
        client.chat.completions.create(
            model="chat",
            messages=messages,
            max_tokens=30,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens > 0
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    packed = client.embeddings.create(model="chat", input=["a", "b"])
    plain = client.embeddings.create(model="chat", input="b", encoding_format="float")
    assert packed.data[1].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert packed.data[0].embedding != packed.data[1].embedding


def test_without_include_usage_no_chunk_carries_usage(quick: Simulator) -> None:
    """A stream ends with its finish reason and [DONE] unless the usage was asked for."""
    lines = post(quick, "/v1/chat/completions", {**CHAT, "stream": True, "max_tokens": 3}).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert all('"usage"' not in line for line in lines)


def test_a_broken_chat_goes_on_where_it_stopped(quick: Simulator) -> None:
    """Prompt and begun answer, by messages, by text or by token ids, give the rest of the unbroken answer."""
    asked = {**CHAT, "max_tokens": 40, "ignore_eos": True}
    whole = post(quick, "/v1/chat/completions", asked).json()["choices"][0]["message"]["content"]
    begun = whole[: whole.index(" ", 60)]
    body = {
        **asked,
        "messages": [*CHAT["messages"], {"role": "assistant", "content": begun}],
        "add_generation_prompt": False,
        "continue_final_message": True,
        "max_tokens": 200,
    }
    rest = post(quick, "/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
    assert (begun + rest).startswith(whole)

    asked = {
        "model": "chat",
        "prompt": "Once",
        "max_tokens": 30,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    choice = post(quick, "/v1/completions", asked).json()["choices"][0]
    assert choice["prompt_token_ids"] == post(quick, "/tokenize", {"prompt": "Once"}).json()["tokens"]
    body = {**asked, "prompt": choice["prompt_token_ids"] + choice["token_ids"][:10], "max_tokens": 20}
    rest_ids = post(quick, "/v1/completions", body).json()["choices"][0]["token_ids"]
    assert choice["token_ids"][:10] + rest_ids == choice["token_ids"]
    detokenized = post(quick, "/detokenize", {"tokens": rest_ids}).json()["prompt"]
    assert choice["text"].endswith(detokenized)


def test_a_stream_gives_token_ids_where_asked(quick: Simulator) -> None:
    """The prompt's with the first event, then one per token, for chats and completions as vLLM gives them."""
    more = {"stream": True, "max_tokens": 4, "ignore_eos": True, "return_token_ids": True}
    for path, body in (
        ("/v1/chat/completions", {**CHAT, **more}),
        ("/v1/completions", {"model": "chat", "prompt": "Once", **more}),
    ):
        text = post(quick, path, body).text
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        prompts = [
            event.get("prompt_token_ids") or event["choices"][0].get("prompt_token_ids") for event in events
        ]
        asked = {"messages": CHAT["messages"]} if "chat" in path else {"prompt": "Once"}
        assert prompts[0] == post(quick, "/tokenize", asked).json()["tokens"]
        assert not any(prompts[1:])
        assert sum(len(event["choices"][0].get("token_ids", ())) for event in events) == 4


def test_the_usage_tells_what_the_prefix_cache_spared(quick: Simulator) -> None:
    """A prompt sent again is cached but for its last tokens, and the engine's counters agree."""
    body = {"model": "chat", "prompt": "again and " * 50, "max_tokens": 1}
    before = metrics(quick)
    cached = [
        post(quick, "/v1/completions", body).json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        for _ in range(2)
    ]
    after = metrics(quick)
    assert cached[0] == 0
    assert 84 <= cached[1] < 100
    assert after.prefix_cache_hits_total - before.prefix_cache_hits_total == cached[1]


def test_several_choices_and_several_prompts_are_all_answered(quick: Simulator) -> None:
    """n and lists of prompts give that many choices, each with its index; drawn choices differ."""
    body = {"model": "chat", "prompt": ["a", "b"], "n": 2, "temperature": 1, "max_tokens": 8}
    answer = post(quick, "/v1/completions", body).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert len({choice["text"] for choice in answer["choices"]}) == 4
    assert answer["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize(
    ("path", "body", "status", "names"),
    [
        ("/v1/chat/completions", b"{", 400, "JSON"),
        ("/v1/chat/completions", b"[" * 100_000, 400, "body"),
        ("/v1/chat/completions", b'{"model":"chat","messages":[]}', 400, "messages"),
        ("/v1/chat/completions", b'{"model":"chat","messages":"hello"}', 400, "messages"),
        ("/v1/chat/completions", b'{"model":"other","messages":[{"role":"user"}]}', 404, "'chat'"),
        ("/v1/completions", b'{"model":"chat","prompt":[]}', 400, "prompt"),
        ("/v1/completions", b'{"model":"chat","prompt":[7]}', 400, "names no token"),
        ("/v1/completions", b'{"model":"chat","prompt":["a",7]}', 400, "mixes"),
        ("/v1/completions", b'{"model":"chat","prompt":"a","max_tokens":5000}', 400, "4096"),
        ("/v1/completions", b'{"model":"chat","prompt":"a","max_tokens":0}', 400, "max_tokens"),
        ("/v1/completions", b'{"model":"chat","prompt":"a","n":99}', 400, "n: 99"),
        ("/v1/embeddings", b'{"model":"chat","input":"a","encoding_format":"gif"}', 400, "gif"),
        ("/v1/nothing", b"{}", 404, "no such route"),
        ("/v1/models", b"{}", 405, "POST"),
        ("/simulator/faults", b"{}", 405, "POST"),
    ],
)
def test_bad_requests_get_an_error_that_names_the_field(
    quick: Simulator, path: str, body: bytes, status: int, names: str
) -> None:
    """Each wrong request is answered in OpenAI's error format, and the engine lives on."""
    answer = httpx.post(quick.url + path, content=body, headers=quick.headers, timeout=10)
    assert answer.status_code == status
    assert names in answer.json()["error"]["message"]
    assert httpx.get(f"{quick.url}/health", timeout=5).status_code == 200


def test_null_stands_for_what_is_left_out(quick: Simulator) -> None:
    """As vLLM takes it: some clients write every field that they know."""
    asked: dict[str, Any] = {**CHAT, "max_tokens": 2, "n": None, "stream": None}
    assert len(post(quick, "/v1/chat/completions", asked).json()["choices"]) == 1
    asked = {**CHAT, "max_tokens": 2, "stream": True, "stream_options": {"include_usage": None}}
    assert post(quick, "/v1/chat/completions", asked).text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("model", ["chat", "chat:law"])
def test_an_answer_says_which_adapter_gave_it(model: str) -> None:
    """As vLLM's do."""
    with simulator("--decode-step-s=0.001", "--adapter=chat:law") as running:
        asked = {"model": model, "messages": CHAT["messages"], "max_tokens": 2}
        for path, body in (
            ("/v1/chat/completions", asked),
            ("/v1/messages", asked),
            ("/v1/completions", {"model": model, "prompt": "a"}),
            ("/v1/responses", {"model": model, "input": "a"}),
        ):
            assert post(running, path, body).json()["model"] == model


def test_only_the_key_of_this_replica_opens_it(quick: Simulator) -> None:
    """Without the key there is no inference and no switch; health and metrics stay open, as vLLM's do."""
    for headers in ({}, {"authorization": "Bearer another"}):
        assert httpx.post(f"{quick.url}/v1/chat/completions", json=CHAT, headers=headers).status_code == 401
        assert httpx.put(f"{quick.url}/simulator/faults", json={}, headers=headers).status_code == 401
    assert httpx.get(f"{quick.url}/metrics").status_code == 200


def test_requests_on_one_connection_are_answered_in_order(quick: Simulator) -> None:
    """Two requests sent at once come back as two answers, the first one first."""
    first = raw_request({"model": "chat", "prompt": "a", "max_tokens": 20}, "/v1/completions", close=False)
    second = raw_request({"prompt": "only tokenized"}, "/tokenize")
    with socket.create_connection(("127.0.0.1", quick.port), timeout=10) as connection:
        connection.sendall(first + second)
        received = read_until_closed(connection)
    assert received.index(b'"text_completion"') < received.index(b'"token_strs"')
    assert received.count(b"HTTP/1.1 200 OK") == 2


def test_too_large_heads_and_bodies_are_refused(quick: Simulator) -> None:
    """Beyond the bounds the connection is closed with the status that says why."""
    flood = b"GET /health HTTP/1.1\r\nx: " + b"a" * 70_000 + b"\r\n\r\n"
    body = (
        f"POST /tokenize HTTP/1.1\r\nauthorization: Bearer {KEY}\r\ncontent-length: 40000000\r\n\r\n".encode()
    )
    for sent, status in ((flood, b" 431 "), (body + b"a" * 34_000_000, b" 413 ")):
        with socket.create_connection(("127.0.0.1", quick.port), timeout=10) as connection:
            sender = threading.Thread(target=_send_quietly, args=(connection, sent))
            sender.start()
            received = read_until_closed(connection)
            sender.join()
        assert status in received[:20]


def _send_quietly(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:
        return


def test_a_client_that_leaves_is_noticed_and_counted() -> None:
    """Its request ends at once, its seat goes to the next, and the abort is in the metrics."""
    with simulator(*SLOW, "--max-num-seqs=1") as running:
        connection = socket.create_connection(("127.0.0.1", running.port), timeout=10)
        connection.sendall(raw_request({**CHAT, "stream": True, "ignore_eos": True, "max_tokens": 2000}))
        assert connection.recv(100)
        waiting = threading.Thread(
            target=post, args=(running, "/v1/chat/completions", {**CHAT, "max_tokens": 1})
        )
        waiting.start()
        eventually(lambda: metrics(running).waiting == 1, what="one request waits for the only seat")
        connection.close()
        waiting.join(timeout=10)
        assert not waiting.is_alive()
        seen = metrics(running)
        assert (seen.running, seen.waiting, seen.requests_aborted_total) == (0, 0, 1)


def test_sigterm_lets_running_streams_finish_and_takes_nothing_new() -> None:
    """Within the shutdown time-out a stream reaches [DONE]; new connections are refused; exit code 0."""
    with simulator(*SLOW, "--shutdown-timeout-s=20") as running:
        body = {**CHAT, "stream": True, "ignore_eos": True, "max_tokens": 20}
        with httpx.stream(
            "POST", f"{running.url}/v1/chat/completions", json=body, headers=running.headers
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            running.process.send_signal(signal.SIGTERM)
            eventually(lambda: not _connects(running.port), what="the port is closed")
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert running.process.wait(timeout=10) == 0


@pytest.mark.slow
def test_a_slow_reader_gets_the_whole_answer_of_an_engine_that_ends() -> None:
    """All tokens are computed and wait to be fetched when SIGTERM comes; not one is lost."""
    body = {**CHAT, "stream": True, "ignore_eos": True, "max_tokens": 4000, "n": 5}
    with (
        simulator("--decode-step-s=0.0001", "--shutdown-timeout-s=30") as running,
        socket.socket() as connection,
    ):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", running.port))
        connection.sendall(raw_request(body, close=False))
        eventually(lambda: metrics(running).requests_finished_total == 1, what="the answer is computed")
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: not _connects(running.port), what="the port is closed")
        received = read_until_closed(connection)
        assert received.count(b'"content"') == 5 * 4001
        assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert running.process.wait(timeout=10) == 0


def test_without_patience_sigterm_cuts_streams_without_a_false_end() -> None:
    """When the time-out is over the stream breaks off; no [DONE] pretends that it was whole."""
    with simulator(*SLOW, "--shutdown-timeout-s=0") as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(raw_request({**CHAT, "stream": True, "ignore_eos": True, "max_tokens": 2000}))
            assert connection.recv(100)
            running.process.send_signal(signal.SIGTERM)
            assert b"[DONE]" not in read_until_closed(connection)
        assert running.process.wait(timeout=10) == 0


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def test_a_hanging_engine_answers_nothing_until_it_is_let_go() -> None:
    """While it hangs even health is silent; afterwards what was asked meanwhile is answered."""
    with simulator("--decode-step-s=0.001") as running:
        set_faults(running, hang=True)
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{running.url}/health", timeout=0.2)
        answers: list[int] = []
        asking = threading.Thread(
            target=lambda: answers.append(post(running, "/v1/chat/completions", CHAT).status_code)
        )
        asking.start()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{running.url}/v1/completions", json={}, headers=running.headers, timeout=0.2)
        set_faults(running)
        asking.join(timeout=10)
        assert answers == [200]


def test_an_engine_crashes_after_the_tokens_it_was_told() -> None:
    """The client gets exactly those tokens, then the process is gone as by SIGKILL."""
    with simulator("--decode-step-s=0.002", '--faults={"crash_after_tokens": 7}') as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(raw_request({**CHAT, "stream": True, "ignore_eos": True, "max_tokens": 100}))
            received = read_until_closed(connection)
        assert received.count(b'"content"') == 7 + 1  # one of them is the opening with the role
        assert running.process.wait(timeout=10) == -signal.SIGKILL


def test_a_stuck_stream_stays_open_and_a_cut_one_does_not() -> None:
    """Both stop after the tokens told, without [DONE]: one in silence, one with its connection."""
    with simulator("--decode-step-s=0.001") as running:
        body = raw_request({**CHAT, "stream": True, "ignore_eos": True, "max_tokens": 50})
        set_faults(running, cut_stream_after_tokens=5)
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(body)
            received = read_until_closed(connection)
        assert received.count(b'"content"') == 6
        assert b"[DONE]" not in received
        set_faults(running, stuck_stream_after_tokens=5)
        with socket.create_connection(("127.0.0.1", running.port), timeout=1) as connection:
            connection.sendall(body)
            received = b""
            with pytest.raises(TimeoutError):
                while True:
                    received += connection.recv(65536)
        assert received.count(b'"content"') == 6


def test_a_share_of_requests_is_unavailable_evenly() -> None:
    """A quarter of the requests gets 503, every fourth one."""
    with simulator("--decode-step-s=0.001", '--faults={"unavailable_share": 0.25}') as running:
        seen = [
            post(running, "/v1/chat/completions", {**CHAT, "max_tokens": 1}).status_code for _ in range(8)
        ]
    assert seen == [200, 200, 200, 503] * 2


def test_a_slow_engine_takes_that_much_longer() -> None:
    """The factor applies to steps that begin after it was set."""
    with simulator("--decode-step-s=0.002") as running:
        body = {**CHAT, "max_tokens": 20, "ignore_eos": True}
        took_s = []
        for factor in (1, 10):
            set_faults(running, slow_factor=factor)
            began_s = time.monotonic()
            post(running, "/v1/chat/completions", body)
            took_s.append(time.monotonic() - began_s)
    assert took_s[1] >= max(20 * 0.02, took_s[0])


@pytest.mark.parametrize(
    "faults", [{"hangs": True}, {"slow_factor": 0}, {"crash_after_tokens": 0}, {"hang": 1}]
)
def test_unknown_or_senseless_switches_are_refused(quick: Simulator, faults: dict[str, Any]) -> None:
    """A misspelt switch must not leave a test believing that it was thrown."""
    assert set_faults(quick, **faults).status_code == 400


def test_its_metrics_carry_the_names_of_vllm(quick: Simulator) -> None:
    """What the agent reads is there, under names that vLLM 0.32 has."""
    page = httpx.get(f"{quick.url}/metrics").text
    types = {line.split()[2]: line.split()[3] for line in page.splitlines() if line.startswith("# TYPE")}
    expected = {
        "vllm:num_requests_running": "gauge",
        "vllm:num_requests_waiting": "gauge",
        "vllm:kv_cache_usage_perc": "gauge",
        "vllm:cache_config_info": "gauge",
        "vllm:prompt_tokens_total": "counter",
        "vllm:prompt_tokens_cached_total": "counter",
        "vllm:generation_tokens_total": "counter",
        "vllm:prefix_cache_queries_total": "counter",
        "vllm:prefix_cache_hits_total": "counter",
        "vllm:num_preemptions_total": "counter",
        "vllm:request_success_total": "counter",
        "vllm:time_to_first_token_seconds": "histogram",
        "vllm:inter_token_latency_seconds": "histogram",
        "vllm:e2e_request_latency_seconds": "histogram",
        "vllm:request_queue_time_seconds": "histogram",
    }
    assert expected.items() <= types.items()


@pytest.mark.parametrize(
    "argument", ["--max-num-seqs=0", "--decode-step-s=0", "--faults={", "--weight-load-s=-1", "--no-such=1"]
)
def test_a_wrong_argument_ends_it_with_one_line(argument: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and the argument's name, before anything is opened."""
    with pytest.raises(AssertionError, match="exit code"), simulator(argument):
        pass
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert argument.split("=", maxsplit=1)[0].lstrip("-").split("-")[0] in error
