"""Money: decimal dollars in documents, integer micro-dollars inside. Pure."""

import re
from decimal import Decimal

MICRO = 1_000_000
#: Less than a billion dollars, at most six decimals.
USD_PATTERN = r"^\d{1,9}(\.\d{1,6})?$"
USD_FORM = 'decimal string of dollars is wanted, from 0 to 999999999, at most six decimals, such as "98.32"'


def micro_usd(text: str) -> int:
    """``"98.32"`` as 98320000. Raises ValueError for anything but a decimal string of dollars."""
    if not re.fullmatch(USD_PATTERN, text, re.ASCII):
        raise ValueError(f"a {USD_FORM}")
    return int(Decimal(text) * MICRO)


def usd(micro: int) -> str:
    """98320000 as ``"98.32"``: cents always, further decimals where they are not zero."""
    whole, rest = divmod(abs(micro), MICRO)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micro < 0 else ''}{whole}.{decimals}"
