"""Run every benchmark and print its table: ``make bench``, or one with ``python -m tests.benchmarks gateway``."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """The number of benchmarks that failed."""
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    wanted = sys.argv[1:] or known
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known)}")
    failed = 0
    for name in wanted:
        sys.stdout.write(f"\n## {name}\n\n")
        sys.stdout.flush()
        command = [sys.executable, "-m", f"tests.benchmarks.bench_{name}"]
        failed += subprocess.run(command, cwd=HERE.parents[1], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
