"""Counts as people read them."""


def counted(count: int, noun: str) -> str:
    """``1 replica``, ``2 replicas``: a count with what is counted, a noun that takes an s."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
