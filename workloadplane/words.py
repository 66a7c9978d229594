"""Counts as people read them, for whoever tells of one: this imports nothing, so that every room may import it."""


def counted(count: float, noun: str, form: str = "") -> str:
    """``1 replica``, ``2 launches``: a count, printed by ``form``, with what is counted, a noun that takes an (e)s."""
    printed = f"{count:{form}}"
    if printed == "1":
        return f"{printed} {noun}"
    return f"{printed} {noun}{'es' if noun.endswith(('ch', 's', 'sh', 'x')) else 's'}"
