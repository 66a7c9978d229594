"""What a request dictates comes out valid, whatever its schema asks for."""

import json
from typing import Any

import jsonschema_rs
import pytest

from workloadplane.engines.simulator.structured import (
    Script,
    instance,
    of_chat,
    of_messages,
    of_responses,
    scripted,
)
from workloadplane.engines.simulator.text import Sampling

_PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 18}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
SCHEMAS: list[Any] = [
    _PERSON,
    {"type": "array", "items": _PERSON, "minItems": 2},
    {"$defs": {"p": _PERSON}, "type": "object", "properties": {"p": {"$ref": "#/$defs/p"}}, "required": ["p"]},
    {"anyOf": [{"type": "integer", "exclusiveMinimum": 4, "multipleOf": 5}, {"type": "null"}]},
    {"oneOf": [{"const": "a"}, {"const": "b"}]},
    {"allOf": [_PERSON | {"additionalProperties": True}, {"properties": {"x": {"enum": [3]}}, "required": ["x"]}]},
    {"type": ["null", "string"], "minLength": 9, "maxLength": 9},
    {"type": "number", "maximum": -2.5},
    {"type": "number", "exclusiveMaximum": 0},
    {"type": "string", "format": "date-time"},
    {"type": "boolean"},
    {"type": "null"},
    {"properties": {"größe": {"type": "number"}}, "required": ["größe"]},
    {},
]  # fmt: skip
_TOOL = {"name": "person", "parameters": _PERSON}


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_an_instance_is_valid(schema: Any) -> None:
    """By the judgement of a validator that is not ours."""
    jsonschema_rs.validate(schema, instance(schema))


def test_what_recurs_without_end_is_cut_off() -> None:
    """A schema that demands itself has no instance; it must not hang the engine."""
    schema = {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]}
    assert instance(schema)
    assert instance({"$ref": "#"}) is not None


def test_a_tool_is_called_where_the_request_forces_it() -> None:
    """By name, by "required", in the words of each API; left to choose, the model talks."""
    chat = [{"type": "function", "function": {"name": "other"}}, {"type": "function", "function": _TOOL}]
    named = {"type": "function", "function": {"name": "person"}}
    wanted = Script(json.dumps(instance(_PERSON), separators=(",", ":")), "person")
    assert of_chat(chat, named, None) == wanted
    assert of_chat(chat[1:], "required", None) == wanted
    assert (
        of_responses([{"type": "function", **_TOOL}], {"type": "function", "name": "person"}, None) == wanted
    )
    assert of_messages([{"name": "person", "input_schema": _PERSON}], {"type": "any"}, None) == wanted
    for nothing in (
        of_chat(chat, "auto", None),
        of_chat(None, "required", None),
        of_chat(chat, "none", None),
    ):
        assert nothing is None


def test_a_script_is_cut_where_its_tokens_are_spent() -> None:
    """And says so."""
    script = Script('{"name":"river","age":18}', "person")
    whole = scripted(script, Sampling(max_tokens=100))
    assert (b"".join(whole.pieces).decode(), whole.finish_reason) == (script.text, "tool_calls")
    cut = scripted(script, Sampling(max_tokens=2))
    assert (len(cut.tokens), cut.finish_reason) == (2, "length")
