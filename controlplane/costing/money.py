"""Money as people read it."""

MICRO_USD_PER_USD = 1_000_000


def usd_printed(micro_usd: int) -> str:
    """An amount in dollars, to the tenth of a cent and never rounded to nothing: ``1.205``, ``0.000004``."""
    if micro_usd != 0 and abs(micro_usd) < 1000:
        return f"{micro_usd / MICRO_USD_PER_USD:.6f}"
    return f"{micro_usd / MICRO_USD_PER_USD:.3f}"


def usd_exact(micro_usd: int) -> str:
    """An amount in dollars, to the last micro-dollar, for who keeps to it, as to a budget: ``1.205``, ``4.096575``."""
    whole, rest = divmod(abs(micro_usd), MICRO_USD_PER_USD)
    decimals = f"{rest:06d}".rstrip("0").ljust(3, "0")
    return f"{'-' if micro_usd < 0 else ''}{whole}.{decimals}"
