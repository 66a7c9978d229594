"""Documents from outside: nothing unknown, nothing coerced, every complaint with a JSON pointer and a remedy.

DRF's own fields accept ``"3"`` for 3 and ``1`` for true. A deployment's document is read by people, tools and three
clients of ours; what it says must be what is stored. So all serializers of the API derive from ``StrictSerializer``
and use the ``Strict…`` fields.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.validators import RegexValidator
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from apps.accounts.models import NAME_PATTERN
from apps.api.field_errors import SURROGATES
from apps.api.money import USD_FORM, micro_usd, usd


class StrictCharField(serializers.CharField):
    """A string stays a string; anything else is refused. Bounded: the default maximum is 255 characters."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 255)
        kwargs.setdefault("trim_whitespace", False)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if SURROGATES.search(data):
            raise ValidationError("Half of a surrogate pair is no character.", code="invalid")
        return super().to_internal_value(data)


class PatternField(StrictCharField):
    """A string of one form, which the OpenAPI document shows too. ``form`` says it in words."""

    def __init__(self, *, pattern: str, form: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.validators.append(
            RegexValidator(re.compile(pattern.replace("$", r"\Z"), re.ASCII), form, code="form")
        )


class NameField(PatternField):
    """A DNS label, at most 63 characters."""

    def __init__(self, **kwargs: Any) -> None:
        form = (
            "Lower-case letters, digits and hyphens are wanted, at most 63, a letter or digit at both ends."
        )
        super().__init__(pattern=NAME_PATTERN, form=form, **{"max_length": 63, **kwargs})


class StrictIntegerField(serializers.IntegerField):
    """A JSON integer; not a string, not true, not 3.0. Bounded to what PostgreSQL's bigint holds."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("min_value", 0)
        kwargs.setdefault("max_value", 2**63 - 1)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return data


class StrictFloatField(serializers.FloatField):
    """A JSON number; not a string, not true."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        try:
            return float(data)
        except OverflowError:
            self.fail("invalid")


class StrictBooleanField(serializers.BooleanField):
    """true or false, nothing that looks like it."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class StrictChoiceField(serializers.ChoiceField):
    """One of the strings listed."""

    default_error_messages: ClassVar[dict[str, Any]] = {"invalid_choice": "Is not one of: {known}."}

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str) or data not in self.choices:
            self.fail("invalid_choice", known=", ".join(map(str, self.choices)))
        return data


class StrictUuidField(serializers.UUIDField):
    """A UUID as a string."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class StrictDateTimeField(serializers.DateTimeField):
    """A moment as an ISO 8601 string."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str):
            self.fail("invalid", format="YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]")
        try:
            return super().to_internal_value(data)
        except (OverflowError, ValueError):
            self.fail("invalid", format="YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]")


class UsdField(serializers.Field[int, str, str, Any]):
    """Dollars as a decimal string in documents (``"98.32"``), integer micro-dollars inside: money is never a float."""

    default_error_messages = {  # noqa: RUF012  (DRF merges these dictionaries along the classes)
        "invalid": f"A {USD_FORM}."
    }

    def to_internal_value(self, data: Any) -> int:
        try:
            return micro_usd(data)
        except (TypeError, ValueError):
            self.fail("invalid")

    def to_representation(self, value: int) -> str:
        return usd(value)


class StrictSerializer(serializers.Serializer[Any]):
    """A document whose every field is known."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise ValidationError({"": [ErrorDetail("An object is wanted.", code="not_an_object")]})
        known = [name for name, field in self.fields.items() if not field.read_only]
        unknown: dict[str, list[ErrorDetail]] = {
            str(name): [ErrorDetail(f"Unknown field. Known are: {', '.join(known)}.", code="unknown_field")]
            for name in data
            if name not in known
        }
        try:
            value = super().to_internal_value(data)
        except ValidationError as error:
            if not unknown or not isinstance(error.detail, dict):
                raise
            raise ValidationError({**error.detail, **unknown}) from error
        if unknown:
            raise ValidationError(unknown)
        return value
