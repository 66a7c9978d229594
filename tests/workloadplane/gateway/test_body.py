"""A body is read once and changed in one member at most."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloadplane.gateway.body import InferenceBody, parse, with_model, with_usage_asked
from workloadplane.gateway.errors import Failure

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_OPTIONS = st.none() | st.fixed_dictionaries(
    {}, optional={"include_usage": st.just(False), "x": st.integers()}
)


@given(st.dictionaries(st.text(), _JSON, max_size=5), _OPTIONS, st.booleans(), st.sampled_from([None, 2]))
def test_asking_for_usage_changes_nothing_else(
    more: dict[str, Any], options: dict[str, Any] | None, given_options: bool, indent: int | None
) -> None:
    """Whatever the body holds, it comes out equal except for ``include_usage``."""
    members = {**more, "model": "chat", "stream": True, "user": None, "prompt_cache_key": None}
    members.pop("stream_options", None)
    if given_options:
        members["stream_options"] = options
    body = json.dumps(members, indent=indent).encode()
    parsed = parse(body)
    assert isinstance(parsed, InferenceBody)
    changed = json.loads(with_usage_asked(body, parsed))
    assert changed.pop("stream_options") == {
        **(members.get("stream_options") or {}),
        "include_usage": True,
    }
    members.pop("stream_options", None)
    assert changed == members


def test_bytes_outside_the_member_stay() -> None:
    """Numbers, spaces and escapes of the client's own writing reach the engine as they were."""
    body = b'{ "model" : "chat", "temperature": 1.0e-3, "stop":["\\u00e9"],"stream_options" : {} }'
    parsed = parse(body)
    assert isinstance(parsed, InferenceBody)
    assert with_usage_asked(body, parsed) == body.replace(b"{} }", b'{"include_usage":true} }')
    assert with_model(body, "other") == body.replace(b'"chat"', b'"other"')


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (b"", None, "not valid JSON"),
        (b"{", None, "not valid JSON"),
        (b'{"model": "a"} trailing', None, "not valid JSON"),
        (b'{"model": "\xff"}', None, "not valid JSON"),
        (b"[]", None, "not accepted"),
        (b"{}", "model", "model"),
        (b'{"model": 5}', "model", "str"),
        (b'{"model": "a", "stream": "yes"}', "stream", "bool"),
        (b'{"model": "a", "stream_options": []}', "stream_options", "object"),
        (b'{"model": "a", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, "too deeply"),
        (b'{"model": "a", "messages": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, None, "too deeply"),
    ],
)
def test_a_wrong_body_is_named(body: bytes, param: str | None, says: str) -> None:
    """Each wrong body is a 400 that names the member and what is wrong with it."""
    failure = parse(body)
    assert isinstance(failure, Failure)
    assert failure.status == 400
    assert failure.param == param
    assert says in failure.message


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"chat","stream":true,"x":{"stream_options":null},"stream_option\\u0073":null}',
        b'{"model":"chat","stream":true,"stream_option\\u0073":{},"x":{"stream_options":{}}}',
    ],
)
def test_a_name_written_with_escapes_is_not_taken_for_anothers(body: bytes) -> None:
    """Usage is asked for where an engine looks, however the client spells the name there."""
    parsed = parse(body)
    assert isinstance(parsed, InferenceBody)
    changed = json.loads(with_usage_asked(body, parsed))
    assert changed["stream_options"] == {"include_usage": True}
    assert not changed["x"]["stream_options"]
