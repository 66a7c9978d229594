"""What was once found stays found: every kept input, and inputs near it, go through their target."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.relayed import relay
from tests.fuzz.targets import TARGETS
from tests.support.gateway import run

_CORPUS = Path(__file__).parent / "corpus"
_INPUTS = sorted(path.relative_to(_CORPUS) for path in _CORPUS.glob("*/*"))
_NEARBY = 2000
_WORDS = (
    b"",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b":",
    b";",
    b"0",
    b'"',
    b"{",
    b"chunked",
    b"\xff",
    b"data: ",
)


@pytest.mark.parametrize("path", _INPUTS, ids=str)
def test_kept_inputs_pass(path: Path) -> None:
    """Each input of the corpus holds what its target asks for."""
    asyncio.run(_try(path.parts[0], (_CORPUS / path).read_bytes()))


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_near_them_pass(name: str) -> None:
    """So do inputs made of them by leaving out, putting in and joining, the same ones at every run."""
    kept = [path.read_bytes() for path in sorted((_CORPUS / name).iterdir())]
    rng = Random(name)

    async def scenario() -> None:
        for _ in range(_NEARBY):
            data = rng.choice(kept)
            if rng.random() < 0.3:
                data = data[: rng.randrange(len(data) + 1)] + rng.choice(kept)
            for _ in range(rng.randrange(4)):
                place = rng.randrange(len(data) + 1)
                data = data[:place] + rng.choice(_WORDS) + data[place + rng.randrange(3) :]
            TARGETS[name](data)

    asyncio.run(scenario())


def test_relayed_bytes_are_the_ones_that_were_sent(tmp_path: Path) -> None:
    """Streams and bodies through a real gateway, cut anywhere by the engine: equal byte for byte at the client."""
    run(_relay(tmp_path))


async def _relay(directory: Path) -> None:
    assert await relay(20_000, seed=7, directory=directory) > 20


async def _try(name: str, data: bytes) -> None:
    """In a running loop, as some targets ask for one."""
    TARGETS[name](data)
