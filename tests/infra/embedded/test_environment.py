"""What `make` needs, and what it says when that is missing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from infra.embedded import vllm_environment
from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import CHECKOUT, Layout


def _tools_only(folder: Path, *names: str) -> str:
    """A PATH with nothing but these tools."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return str(folder)


def _environment(checkout: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "infra/embedded/environment.sh"],
        cwd=checkout,
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a checkout"
    (folder / "infra" / "embedded").mkdir(parents=True)
    for name in ("environment.sh", "build.lock"):
        shutil.copy(CHECKOUT / "infra" / "embedded" / name, folder / "infra" / "embedded")
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, folder)
    return folder


def test_without_python_one_line_says_what_to_install(checkout: Path, tmp_path: Path) -> None:
    """No Python, no traceback: the version that is needed and how to name another."""
    done = _environment(checkout, _tools_only(tmp_path / "bin", "sh", "cat", "cksum", "awk"))
    assert done.returncode == 1
    assert done.stderr.startswith("meridian: Python 3.11 to 3.14 is needed")
    assert done.stderr.count("\n") == 1


def test_without_the_venv_module_one_line_says_which_package_has_it(checkout: Path, tmp_path: Path) -> None:
    """Debian's bare Python has no venv."""
    path = _tools_only(tmp_path / "bin", "sh", "cat", "cksum", "awk")
    bare = tmp_path / "bin" / "python3"
    bare.write_text('#!/bin/sh\ncase "$2" in *venv*) exit 1;; esac\nexit 0\n')
    bare.chmod(0o755)
    done = _environment(checkout, path)
    assert done.returncode == 1
    assert done.stderr == (
        "meridian: python3 has no venv module: install it "
        "(on Debian and Ubuntu: apt-get install python3-venv)\n"
    )


def test_every_target_is_explained_by_make_help() -> None:
    """What the Makefile offers, it describes."""
    told = subprocess.run(["make", "help"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for target in ("up", "down", "status", "reset", "test", "test-fast", "lint", "bench"):
        assert re.search(rf"^  make {target} +\w", told, flags=re.MULTILINE), target


def test_too_little_memory_for_vllm_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 6 GB free the simulator is used, and the reason has the figures."""
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=5 * 1024**3))
    assert vllm_environment.why_not() == "vLLM needs 6 GB of free memory, and 5.0 GB are free"
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=7 * 1024**3))
    assert "memory" not in vllm_environment.why_not()


def test_without_a_compiler_vllm_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would start, compile, and fail a minute later: the reason comes first, with the remedy."""
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=7 * 1024**3))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no C++ compiler (apt-get install g++)" in vllm_environment.why_not()


@pytest.mark.slow
def test_a_failed_install_of_vllm_is_one_line_and_leaves_nothing_that_looks_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an index the environment isn't ready, and the next try begins anew."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr(Layout, "engines", tmp_path / "engines")
    layout = Layout(state=tmp_path / "var")
    said: list[str] = []
    with pytest.raises(EmbeddedError, match=r"^`-m pip install` failed: .*torch") as failure:
        vllm_environment.ensure(layout, said.append)
    assert "\n" not in str(failure.value)
    assert not vllm_environment.is_ready(layout)
    assert said == ["making its environment", "installing torch"]
