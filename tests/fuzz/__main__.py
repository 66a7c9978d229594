"""``python -m tests.fuzz [all|relayed|TARGET] [libFuzzer's options]``: see the package.

Exit status: 0 when nothing was found; otherwise libFuzzer's, and the input lies in ``crash-…`` where it says.
"""

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["workloadplane.gateway"]):
    from tests.fuzz import relayed
    from tests.fuzz.targets import TARGETS

_HERE = Path(__file__).parent
#: How many of all executions each target gets, in hundredths: what costs a client most is tried most.
_SHARES = {"reader": 35, "sse": 18, "body": 18, "answer": 18, "frames": 11}


def main(arguments: list[str]) -> int:
    """Fuzz one target in this process, or all one after the other in processes of their own."""
    name, *options = arguments or ["all"]
    if name == "all":
        return _all(options)
    if name == "relayed":
        return relayed.main(options)
    if name not in TARGETS:
        sys.stderr.write(f"target {name} is unknown; take all or one of: {', '.join(TARGETS)}\n")
        return 2
    asyncio.run(_fuzz(name, options))
    return 0


def _all(options: list[str]) -> int:
    runs = 10_000_000
    for option in [each for each in options if each.startswith("-runs=")]:
        runs = int(option.removeprefix("-runs="))
        options.remove(option)
    for name, share in _SHARES.items():
        command = [sys.executable, "-m", "tests.fuzz", name, f"-runs={runs * share // 100}", *options]
        status = subprocess.run(command, check=False).returncode
        if status:
            return status
    return subprocess.run([sys.executable, "-m", "tests.fuzz", "relayed"], check=False).returncode


async def _fuzz(name: str, options: list[str]) -> None:
    """In a running loop, which what is fuzzed asks for."""
    logging.disable(logging.CRITICAL)
    found = Path("var") / "fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    defaults = ["-max_len=2048", "-timeout=20", "-print_final_stats=1", f"-dict={_HERE / 'words.dict'}"]
    defaults.append(f"-artifact_prefix={found.parent}/")
    corpora = [str(found), str(_HERE / "corpus" / name)]
    atheris.Setup([sys.argv[0], *defaults, *options, *corpora], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
