"""What is wrong with single fields of a document, or with parameters: where, what, and what to do."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: Half of a pair, which is no character by itself.
SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class FieldError:
    """One wrong field. ``pointer`` is a JSON pointer into the body; ``parameter`` names a query parameter or header."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    value: Any = None
    remedy: str | None = None

    def document(self) -> dict[str, Any]:
        """As it is sent: only what is known."""
        members = {
            "pointer": self.pointer,
            "parameter": self.parameter,
            "detail": self.detail,
            "value": self.value,
            "remedy": self.remedy,
        }
        return {name: value for name, value in members.items() if value is not None}


#: For details that already say what to do.
UNSPECIFIC_REMEDY: Final = "correct it as the detail says"
REMEDIES: Mapping[str, str] = {
    "required": "add the field",
    "null": "give a value",
    "blank": "give at least one character",
    "unknown_field": "remove it, or correct its name",
    "invalid_choice": "use one of these",
    "not_a_list": "send a JSON array",
    "not_a_dict": "send a JSON object",
    "not_an_object": "send a JSON object",
    "max_length": "shorten it",
    "min_value": "raise it",
    "max_value": "lower it",
}


def field_errors(detail: Any, data: Any) -> list[FieldError]:
    """DRF's nested error details, flattened to JSON pointers; values are taken from the document that was sent."""
    found: list[FieldError] = []
    _collect(detail, "", data, found)
    return found


def _collect(detail: Any, pointer: str, data: Any, found: list[FieldError]) -> None:
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            if name in ("non_field_errors", ""):
                _collect(inner, pointer, data, found)
            else:
                escaped = str(name).replace("~", "~0").replace("/", "~1")
                _collect(inner, f"{pointer}/{escaped}", _member(data, name), found)
    elif isinstance(detail, Sequence) and not isinstance(detail, str):
        if detail and all(isinstance(entry, str) for entry in detail):
            for entry in detail:
                _collect(entry, pointer, data, found)
        else:  # one entry for each element of a list, empty where the element is good
            for index, inner in enumerate(detail):
                if inner:
                    _collect(inner, f"{pointer}/{index}", _member(data, index), found)
    else:
        code = getattr(detail, "code", "invalid")
        found.append(
            FieldError(
                pointer=pointer,
                detail=str(detail),
                value=_shown(data),
                remedy=REMEDIES.get(code, UNSPECIFIC_REMEDY),
            )
        )


def _member(data: Any, name: Any) -> Any:
    if isinstance(data, Mapping):
        return data.get(name)
    if (
        isinstance(data, Sequence)
        and not isinstance(data, str)
        and isinstance(name, int)
        and name < len(data)
    ):
        return data[name]
    return None


def _shown(value: Any) -> Any:
    """Scalars are shown again, shortened; whole objects are not."""
    if isinstance(value, str):
        clean = SURROGATES.sub("\ufffd", value)
        return clean if len(clean) <= 80 else clean[:77] + "..."
    if isinstance(value, bool | float):
        return value
    return value if isinstance(value, int) and abs(value) < 2**63 else None
