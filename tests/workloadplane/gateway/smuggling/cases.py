"""The corpus: text files of cases, each with what must become of it.

``== name``, ``expect: …``, then the bytes: line by line, Python's escapes for what is not text, line ends of the file
left out. ``<POST>`` is a good request's head up to its framing, ``<KEY>`` a good key, ``<CHAT>`` a good body of 16
bytes. Expected is how many requests are read, and whether what follows them is refused; of ``refused`` alone, none.
With 0, more is awaited.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.support.gateway import SECRET

CHAT = b'{"model":"chat"}'
_KEY = rf"Authorization: Bearer {SECRET}\r\n"
_POST = rf"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n{_KEY}"


@dataclass(frozen=True)
class Case:
    """One of them."""

    family: str
    name: str
    data: bytes
    requests: int
    refused: bool

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


def load() -> list[Case]:
    """All cases of all files."""
    found: list[Case] = []
    for path in sorted(Path(__file__).parent.glob("*.txt")):
        for block in path.read_text().split("\n== ")[1:]:
            name, expect, *lines = block.strip("\n").split("\n")
            verdict = expect.removeprefix("expect: ")
            count = verdict.split()[0]
            text = "".join(lines).replace("<POST>", _POST).replace("<KEY>", _KEY)
            data = text.replace("<CHAT>", CHAT.decode()).encode("latin-1").decode("unicode_escape")
            found.append(
                Case(
                    path.stem,
                    name,
                    data.encode("latin-1"),
                    0 if count == "refused" else int(count),
                    verdict.endswith("refused"),
                )
            )
    return found
