"""What the programs here share: they run outside the project, with the client library's own environment."""

import json
import os
import sys
import traceback
from collections.abc import Callable

URL = os.environ["GATEWAY_URL"]
KEY = os.environ["GATEWAY_KEY"]
MODEL = os.environ["GATEWAY_MODEL"]
MESSAGES = [{"role": "user", "content": "Who was it?"}]
SCHEMA = {
    "title": "person",
    "description": "Somebody",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 18}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "person", "description": "Somebody", "parameters": SCHEMA}}
FORCED = {"type": "function", "function": {"name": "person"}}


def raises(kind: type[BaseException], call: Callable[[], object]) -> BaseException:
    """The error that the call must raise."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def run(*checks: Callable[[], object]) -> None:
    """One line of JSON a check: its name and, if it failed, why."""
    for check in checks:
        problem = None
        try:
            check()
        except Exception:
            problem = traceback.format_exc()
        sys.stdout.write(json.dumps({"check": check.__name__, "problem": problem}) + "\n")
        sys.stdout.flush()
