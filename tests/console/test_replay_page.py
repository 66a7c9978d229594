"""The console's replay: a trace in, policies side by side out; what is wrong is said where it is wrong."""

import re
from typing import Any

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apps.api.throttling import ApiKeyThrottle
from apps.console.forms.replay import TRACE_BYTES_MAX
from tests.console.test_pages import logged_in
from tests.console.world import World

pytestmark = pytest.mark.django_db

PAGE = "/plans/replay"
HEAD = "timestamp,input_tokens,output_tokens\n"
#: Ten minutes of two requests a second.
TRACE = HEAD + "".join(f"{number / 2},500,100\n" for number in range(1200))
VALID = {
    "policies": ["predictive", "kpa"],
    "fixed_replicas": "3",
    "min_replicas": "1",
    "max_replicas": "8",
    "autoscaling_window_s": "60",
    "scale_down_delay_s": "60",
    "seats": "8",
    "prefill_tokens_per_s": "10000",
    "itl_ms": "40",
    "cold_start_s": "60",
    "wait_slo_s": "5",
    "usd_per_replica_h": "4",
}


def asked(**fields: Any) -> dict[str, Any]:
    """The form filled in; ``None`` leaves a field away. Bytes are the trace's."""
    filled = {**VALID, "trace": TRACE.encode(), **fields}
    if isinstance(filled["trace"], bytes):
        filled["trace"] = SimpleUploadedFile(filled.pop("name", "day.csv"), filled["trace"])
    return {field: value for field, value in filled.items() if value is not None}


def test_a_trace_is_replayed_for_each_policy(client: Client, world: World) -> None:
    """By a viewer, as a page or as htmx's part of it; figures and a picture for each."""
    client = logged_in(client, world.viewer)
    html = client.post(PAGE, asked()).content.decode()
    assert "<html" in html
    part = client.post(PAGE, asked(), headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    for answer in (html, part):
        assert "1,200 requests in 0.17 h" in answer
        assert "Each request is played by itself" in answer
        assert answer.count("chart-line s1") >= 3
        scales = [
            re.findall(r'text-anchor="end">([^<]*)</text>', drawn)[:4]
            for drawn in answer.split("<figure")[1:]
        ]
        assert scales[0] == scales[1] == scales[2]  # pictures side by side have one scale
        assert all(policy in answer for policy in ("predictive", "kpa", "static:3"))
        assert "1.99" in answer or "2.00" in answer  # three replicas at 4 USD for ten minutes


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"trace": None}, "This field is required"),
        ({"policies": []}, "This field is required"),
        ({"policies": ["magic"]}, "magic is not one of the available choices"),
        ({"max_replicas": "0"}, "greater than or equal to 1"),
        ({"min_replicas": "9"}, "give a number of 0 or more, 8 at most"),
        ({"itl_ms": "nan"}, "Enter a number"),
        ({"trace": b"x", "name": "day.parquet"}, "give a file that ends in .csv or .jsonl"),
        ({"trace": b"\x1f\x8b\x08", "name": "day.csv.gz"}, "This file is packed: unpack it"),
        ({"trace": b"timestamp,input_tokens," + b"9" * 140_000}, "the head is no CSV"),
        ({"trace": HEAD.encode()}, "there is no row in it"),
        ({"trace": HEAD.encode() + b"0,1,1\n9,1,<em>\n"}, "row 2, output_tokens"),
        ({"trace": HEAD.encode() + b"0,1,1\n90000,1,1\n"}, "more than 6 hours"),
        ({"trace": b"0" * (TRACE_BYTES_MAX + 1)}, "of 1,000,000: replay a part"),
    ],
)  # fmt: skip
def test_what_cannot_be_replayed_is_said_at_its_field(
    client: Client, world: World, fields: dict[str, Any], says: str
) -> None:
    """As a page with its status; with htmx in the part that is swapped, which must be a success."""
    client = logged_in(client, world.viewer)
    answer = client.post(PAGE, asked(**fields))
    assert answer.status_code in (400, 422)
    html = answer.content.decode()
    assert says in html
    assert "<em>" not in html
    part = client.post(PAGE, asked(**fields), headers={"HX-Request": "true"})
    assert part.status_code == 200
    assert says in part.content.decode()


def test_replays_have_a_budget(client: Client, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of all that takes long to answer."""
    monkeypatch.setattr(ApiKeyThrottle, "THROTTLE_RATES", {"solve": "1/minute"})
    monkeypatch.setattr(ApiKeyThrottle, "timer", lambda _: 30.0)
    cache.clear()
    client = logged_in(client, world.viewer)
    assert client.post(PAGE, asked(policies=["kpa"])).status_code == 200
    refused = client.post(PAGE, asked(policies=["kpa"]))
    assert refused.status_code == 429
    assert "wait 30 s" in refused.content.decode()
