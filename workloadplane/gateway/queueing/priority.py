"""Three classes of priority, and the ways in which clients name them.

Our header ``x-meridian-priority`` (``high``, ``normal``, ``low``) counts before ``service_tier`` (OpenAI's and
Anthropic's word), and that before ``priority`` (vLLM's: the lower the number, the earlier). A wish beyond what
the key may have is lowered to that, not refused: the same client code works with any key.
"""

LOW, NORMAL, HIGH = 0, 1, 2
CLASSES = 3
NAMES = ("low", "normal", "high")
_BY_NAME = {name: number for number, name in enumerate(NAMES)}
_BY_TIER = {"flex": LOW, "batch": LOW, "priority": HIGH, "scale": HIGH}


def by_name(name: str) -> int | None:
    """The class of this name; ``None`` if there is none."""
    return _BY_NAME.get(name)


def wished(name: str | None, service_tier: str | None, number: float | None) -> int | None:
    """The class that a request asks for; ``None`` if ``name`` is no class. Unknown tiers are normal."""
    if name is not None:
        return _BY_NAME.get(name)
    if service_tier is not None and service_tier in _BY_TIER:
        return _BY_TIER[service_tier]
    if number is None or number == 0:
        return NORMAL
    return HIGH if number < 0 else LOW
