"""``python -m tests.faults [SECONDS] [SEED]``: the chaos test at length; exit status 1 if something is wrong."""

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.faults.chaos import chaos


def main(arguments: list[str]) -> int:
    """Run, say what happened, then each thing that is wrong."""
    lasts_s, seed = (float(arguments[0]) if arguments else 120.0), int((arguments[1:] or ["7"])[0])
    with tempfile.TemporaryDirectory() as directory:
        outcome = asyncio.run(chaos(Path(directory) / "chaos", lasts_s=lasts_s, seed=seed))
    sys.stdout.write(f"seed {seed}: {outcome}\n")
    for one in outcome.wrong:
        sys.stdout.write(f"wrong: {one}\n")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
