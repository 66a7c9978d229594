"""From nothing to an answered chat, by phase; and from POST to a replica that starts, on the running system.

    python -m tests.benchmarks.bench_up [--runs 3] [--engine simulator]

Each run begins with an empty state folder, as a first `make up` does once the environments are installed.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.system import System, start, stop
from tests.support.waiting import eventually

POSTS = 10


def main() -> None:
    """Print two tables of medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--engine", choices=("simulator", "vllm"), default="simulator")
    options = parser.parse_args()
    took_s: dict[str, list[float]] = {}
    posts_s: list[float] = []
    for _ in range(options.runs):
        folder = Path(tempfile.mkdtemp(prefix="meridian-bench-"))
        try:
            system = start(folder / "var", options.engine)
            try:
                _read(system, took_s)
                posts_s.extend(_post_to_starting(system, number) for number in range(POSTS))
            finally:
                stop(system)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    _print(took_s, posts_s, options.engine)


def _read(system: System, took_s: dict[str, list[float]]) -> None:
    timings = json.loads((system.state / "up-timings.json").read_text())
    for phase in timings["phases"]:
        took_s.setdefault(phase["phase"], []).append(phase["took_s"])
    took_s.setdefault("all of it (phases overlap)", []).append(timings["total_s"])


def _post_to_starting(system: System, number: int) -> float:
    """Seconds from sending the request until the API shows a replica that has been started."""
    name = f"bench-{number}"
    document = {"name": name, "model": "tiny-llama", "engine": "simulator", "residency": ["eu"]}
    with system.api() as client:
        began = time.perf_counter()
        answer = client.post("/deployments", json=document)
        assert answer.status_code == 202, answer.text
        eventually(lambda: _started(system, name), within_s=30, what="a replica starts")
        took_s = time.perf_counter() - began
    system.delete(name)
    return took_s


def _started(system: System, name: str) -> bool:
    return any(replica["state"] in ("starting", "ready") for replica in system.replicas(name))


def _print(took_s: dict[str, list[float]], posts_s: list[float], engine: str) -> None:
    rows = ["| phase | s, median |", "|---|---|"]
    rows += [f"| {phase} | {statistics.median(values):.1f} |" for phase, values in took_s.items()]
    rows += ["", "| POST to a starting replica, as the API shows it | s |", "|---|---|"]
    rows += [
        f"| median | {statistics.median(posts_s):.2f} |",
        f"| worst of {len(posts_s)} | {max(posts_s):.2f} |",
    ]
    runs = len(took_s["all of it (phases overlap)"])
    sys.stdout.write(f"engine {engine}, {runs} runs\n\n" + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
