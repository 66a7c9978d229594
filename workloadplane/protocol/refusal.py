"""The one type for "no, because"."""

import msgspec


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why something was not done. Returned as a value by every pure room, never raised.

    rule:    stable identifier of the rule that said no, ``snake_case`` (``residency``, ``pool_capacity`` ...)
    subject: what was refused: a deployment, field, pool, request ..., named as its user would name it
    value:   the value that the rule did not accept, printed
    remedy:  one sentence: what would make it acceptable
    """

    rule: str
    subject: str
    value: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.value} (refused by {self.rule}); {self.remedy}"
