"""Answers whose shape the request dictates: a call of a tool, or JSON of a schema. Pure.

A real engine masks its tokens by a grammar and so always gives something valid; here it is the smallest valid
instance. What a schema asks for and a plain construction can't give (patterns) is given as near as it comes.
"""

import json
from dataclasses import dataclass
from typing import Any

from workloadplane.engines.simulator.text import Answer, Sampling, split_tokens

_DEPTH_MAX = 32
_STRINGS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "email": "a@example.org",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "127.0.0.1",
}


@dataclass(frozen=True, slots=True)
class Script:
    """What has to be said. ``tool``: the name of the tool that ``text`` holds the arguments for."""

    text: str
    tool: str | None = None


def of_chat(tools: Any, tool_choice: Any, response_format: Any) -> Script | None:
    """What a chat's ``tools``, ``tool_choice`` and ``response_format`` dictate; ``None`` = free text."""
    functions = [_get(tool, "function") for tool in _list(tools)]
    choice = _get(_get(tool_choice, "function"), "name") if isinstance(tool_choice, dict) else None
    called = _called(functions, choice, forced=tool_choice == "required" or choice is not None)
    if called is not None:
        return Script(as_text(instance(_get(called, "parameters"))), _get(called, "name"))
    return of_format(_get(response_format, "type"), _get(_get(response_format, "json_schema"), "schema"))


def of_responses(tools: Any, tool_choice: Any, text: Any) -> Script | None:
    """The same in the words of the Responses API."""
    functions = [tool for tool in _list(tools) if _get(tool, "type") == "function"]
    choice = _get(tool_choice, "name") if isinstance(tool_choice, dict) else None
    called = _called(functions, choice, forced=tool_choice == "required" or choice is not None)
    if called is not None:
        return Script(as_text(instance(_get(called, "parameters"))), _get(called, "name"))
    form = _get(text, "format")
    return of_format(_get(form, "type"), _get(form, "schema"))


def of_messages(tools: Any, tool_choice: Any, output_config: Any) -> Script | None:
    """The same in the words of the Messages API."""
    kind = _get(tool_choice, "type")
    called = _called(_list(tools), _get(tool_choice, "name"), forced=kind in ("any", "tool"))
    if called is not None:
        return Script(as_text(instance(_get(called, "input_schema"))), _get(called, "name"))
    form = _get(output_config, "format")
    return of_format(_get(form, "type"), _get(form, "schema"))


def of_format(kind: Any, schema: Any) -> Script | None:
    """JSON of a schema, or any JSON object."""
    if kind == "json_schema":
        return Script(as_text(instance(schema)))
    return Script('{"answer":"yes"}') if kind == "json_object" else None


def scripted(script: Script, sampling: Sampling) -> Answer:
    """The script as an answer, cut off where its tokens are spent."""
    tokens = tuple(split_tokens(script.text.encode()))
    reason = "stop" if script.tool is None else "tool_calls"
    if len(tokens) > sampling.max_tokens:
        tokens, reason = tokens[: sampling.max_tokens], "length"
    return Answer(tokens=tokens, pieces=tokens, finish_reason=reason)


def as_text(value: Any) -> str:
    """JSON in ASCII alone, so that any cut of it is text."""
    return json.dumps(value, separators=(",", ":"))


def instance(schema: Any) -> Any:
    """A small value that a JSON schema accepts."""
    return _instance(schema, schema, 0)


def _instance(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _DEPTH_MAX:
        return {}
    schema = _resolved(schema, root)
    for given in ("const", "default"):
        if given in schema:
            return schema[given]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if kind == "object":
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        return {name: _instance(properties.get(name), root, depth + 1) for name in required}
    if kind == "array":
        items = schema.get("items", {"type": "string"})
        return [_instance(items, root, depth + 1) for _ in range(min(int(schema.get("minItems", 0)), 64))]
    if kind == "string":
        text = _STRINGS.get(schema.get("format", ""), "river")
        least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", 1 << 16))
        return text.ljust(min(least, 1 << 16), "r")[:most]
    return _number(schema, kind) if kind in ("integer", "number") else {"boolean": True}.get(kind)


def _number(schema: dict[str, Any], kind: str) -> Any:
    step = schema.get("multipleOf", 1)
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    if least is not None:
        value = -(-least // step) * step
        return value + step if value == schema.get("exclusiveMinimum") else value
    if most is not None and most <= 1:
        value = most // step * step
        return value - step if value == schema.get("exclusiveMaximum") else value
    return int(step) if kind == "integer" else step


def _resolved(schema: dict[str, Any], root: Any) -> dict[str, Any]:
    """Follow local references, take the first alternative, join what all must hold."""
    for _ in range(_DEPTH_MAX):
        if "$ref" in schema:
            target: Any = root
            for part in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
                target = _get(target, part)
            schema = target if isinstance(target, dict) else {}
        elif schema.get("anyOf") or schema.get("oneOf"):
            options = schema.get("anyOf") or schema["oneOf"]
            rest = {name: value for name, value in schema.items() if name not in ("anyOf", "oneOf")}
            schema = {**rest, **(options[0] if isinstance(options[0], dict) else {})}
        elif schema.get("allOf"):
            parts = [_resolved(part, root) for part in schema["allOf"] if isinstance(part, dict)]
            rest = {name: value for name, value in schema.items() if name != "allOf"}
            schema = _joined([rest, *parts])
        else:
            break
    return schema


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for part in parts:
        properties = {**whole.get("properties", {}), **part.get("properties", {})}
        required = [*whole.get("required", []), *part.get("required", [])]
        whole = {**whole, **part}
        if properties:
            whole["properties"], whole["required"] = properties, required
    return whole


def _called(functions: list[Any], name: Any, *, forced: bool) -> Any:
    if not forced:
        return None
    named = [each for each in functions if name is None or _get(each, "name") == name]
    return named[0] if named else None


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
