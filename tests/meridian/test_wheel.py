"""The wheel installs what each user needs and nothing else."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # setuptools leaves its traces beside what it builds
    kept_out = shutil.ignore_patterns(".*", "var", "build", "dist", "*.egg-info", "__pycache__", "tests")
    shutil.copytree(CHECKOUT, source, ignore=kept_out)
    constraints = str(CHECKOUT / "infra" / "embedded" / "build.lock")
    _run([UV, "build", "--wheel", "--quiet", "--build-constraints", constraints, "--out-dir", folder, source])
    return next(folder.glob("meridian_serving-*.whl"))


def _run(command: list[str | Path], environment: Mapping[str, str] | None = None) -> str:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "MERIDIAN_"))
    }
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(command[-1]).parent if str(command[-1]).startswith("/") else None,
        env={**kept, **(environment or {})},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _installed(wheel: Path, extra: str, folder: Path) -> Path:
    """The Python of a new environment with the wheel and one extra, at the versions that the lock pins."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    lock = str(CHECKOUT / "requirements.lock")
    wanted = f"meridian-serving{extra} @ {wheel.as_uri()}"
    _run(
        [
            UV,
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "--constraints",
            _without_hashes(lock, folder),
            wanted,
        ]
    )
    return python


def _without_hashes(lock: str, folder: Path) -> Path:
    """The lock as constraints: versions only, since the wheel that was just built has no hash in it."""
    lines = [line.split("\\")[0].strip() for line in Path(lock).read_text().splitlines()]
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(line for line in lines if line and not line.startswith("--hash")))
    return constraints


def _has(python: Path, module: str) -> bool:
    found = _run([python, "-c", f"import importlib.util as u; print(u.find_spec('{module}') is not None)"])
    return found.strip() == "True"


def test_base_is_the_command_without_django(wheel: Path, tmp_path: Path) -> None:
    """`pip install meridian-serving` gives command and client; one line says what `up` would need."""
    python = _installed(wheel, "", tmp_path / "base")
    assert "deployments" in _run([python.with_name("meridian"), "--help"])
    assert not _has(python, "django")
    assert not _has(python, "uvloop")
    done = subprocess.run(
        [python.with_name("meridian"), "up"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "meridian-serving[local]" in done.stderr
    command: list[str | Path] = [python.with_name("meridian"), "simulate", "--trace", "a.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "meridian-serving[simulation]" in done.stderr


def test_workload_extra_runs_agent_and_gateway_without_django(wheel: Path, tmp_path: Path) -> None:
    """`pip install meridian-serving[workload]` is all that a cluster needs."""
    python = _installed(wheel, "[workload]", tmp_path / "workload")
    assert not _has(python, "django")
    assert "--control-url" in _run([python, "-m", "workloadplane.agent", "--help"])
    assert "--agent-state-dir" in _run([python, "-m", "workloadplane.gateway", "--help"])
    assert "--port" in _run([python, "-m", "workloadplane.engines.simulator", "--help"])
