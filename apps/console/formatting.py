"""How the console prints durations, money, rates and moments: one way for each, everywhere."""

import math
from datetime import datetime

MICRO_USD = 1_000_000


def duration(seconds: float | None) -> str:
    """``0.34 s``, ``12 s``, ``3 m 20 s``, ``2 h 5 m``; a dash for what is not known."""
    if seconds is None:
        return "–"
    if seconds < 0.001:
        return "0 s" if seconds <= 0 else "< 1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest_s = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} m {rest_s} s" if rest_s else f"{minutes} m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} m" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def usd(micro_usd: int | None) -> str:
    """Dollars with two decimals, three where less than a cent would vanish; ``$1,234.50``."""
    if micro_usd is None:
        return "–"
    dollars = micro_usd / MICRO_USD
    return f"${dollars:,.3f}" if 0 < abs(dollars) < 0.1 else f"${dollars:,.2f}"


def number(value: float | None) -> str:
    """Three significant digits, thousands abbreviated: ``0.52``, ``14.3``, ``1.2k``, ``3.4M``."""
    if value is None:
        return "–"
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1000 if suffix == 'k' else limit):.3g}{suffix}"
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """One decimal; what is there but smaller says so."""
    if value is None:
        return "–"
    if 0 < value < 0.1:
        return "< 0.1"
    return f"{value:.1f}".removesuffix(".0")


def floored_percent(share: float) -> float:
    """A share from 0 to 1 in percent with one decimal, rounded down, so that 100 is all of it."""
    return math.floor(share * 1000 + 1e-6) / 10


def size(value: int | None) -> str:
    """Bytes in binary units."""
    if value is None:
        return "–"
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(amount) < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} TiB"


def ago(moment: datetime | None, now: datetime) -> str:
    """``just now``, ``14 s ago``, ``3 h ago``, ``in 2 d``, ``never``: one unit, rounded down."""
    if moment is None:
        return "never"
    seconds = (now - moment).total_seconds()
    past = seconds >= 0
    seconds = abs(seconds)
    if seconds < 3:
        return "just now"
    unit_s, unit = next(
        (size_s, name)
        for limit_s, size_s, name in (
            (60, 1, "s"),
            (3600, 60, "m"),
            (86_400, 3600, "h"),
            (math.inf, 86_400, "d"),
        )
        if seconds < limit_s
    )
    text = f"{int(seconds // unit_s)} {unit}"
    return f"{text} ago" if past else f"in {text}"
