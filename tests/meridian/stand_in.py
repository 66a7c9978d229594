"""The command beside a control plane that says what a test tells it to."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MERIDIAN = Path(sys.executable).with_name("meridian")

Answers = Mapping[str, tuple[int, Mapping[str, Any]]]
ECHO: Mapping[str, Any] = {}  # an answer that is what was sent


def environment(api_url: str, home: Path, *, inference_url: str = "") -> dict[str, str]:
    """In which the command is logged in there and nowhere else."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")},
        "MERIDIAN_API_URL": api_url,
        "MERIDIAN_API_KEY": "mrd_test",
        "MERIDIAN_INFERENCE_URL": inference_url,
        "XDG_CONFIG_HOME": str(home),
    }


def run_meridian(
    api_url: str, *arguments: str, home: Path, inference_url: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MERIDIAN, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment(api_url, home, inference_url=inference_url),
        cwd=home,
        timeout=60,
    )
