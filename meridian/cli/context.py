"""Which control plane and gateway a command talks to.

In this order: environment (``MERIDIAN_API_URL``, ``MERIDIAN_API_KEY``, ``MERIDIAN_INFERENCE_URL``), what
``meridian login`` stored, the system that ``meridian up`` started here (``var/`` in this folder or in the checkout
that this command belongs to, or ``MERIDIAN_STATE_DIR``). A key in the environment is used in place of a stored one,
but a stored key is never sent to an address of the environment.
"""

import json
import os
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from infra.embedded.layout import STATE_DIR_VARIABLE, Layout
from meridian.client import Client
from meridian.errors import NotLoggedIn, UsageError


@dataclass(frozen=True)
class Login:
    """Addresses (without a path) and the key to use there."""

    api_url: str
    api_key: str
    inference_url: str | None


def config_path() -> Path:
    """Where ``meridian login`` keeps what it was told (XDG base directories)."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "meridian" / "login.toml"


def login_store(login: Login) -> Path:
    """Remember a login, readable by its owner only."""
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = [f"api_url = {json.dumps(login.api_url)}", f"api_key = {json.dumps(login.api_key)}"]
    if login.inference_url:
        lines.append(f"inference_url = {json.dumps(login.inference_url)}")
    temporary = path.with_suffix(".tmp")
    temporary.touch(mode=0o600)
    temporary.write_text("\n".join(lines) + "\n")
    temporary.replace(path)
    return path


def login_find() -> Login:
    """The login in force. Raises NotLoggedIn with the remedy if there is none, UsageError if it can't be used."""
    api_url, api_key, inference_url = (
        os.environ.get(f"MERIDIAN_{name}", "") for name in ("API_URL", "API_KEY", "INFERENCE_URL")
    )
    if api_url and not api_key:
        raise UsageError("MERIDIAN_API_URL is set but MERIDIAN_API_KEY is not; set both, or neither")
    if api_url:
        return Login(api_url.rstrip("/"), api_key, inference_url.rstrip("/") or None)
    stored = _stored()
    return replace(
        stored,
        api_key=api_key or stored.api_key,
        inference_url=inference_url.rstrip("/") or stored.inference_url,
    )


def _stored() -> Login:
    if config_path().exists():
        return _from_config(config_path())
    for local in _local_endpoints():
        if local.exists():
            return _from_endpoints(local)
    raise NotLoggedIn("not logged in; run `meridian login`, or `make up` for a system on this machine")


def _local_endpoints() -> list[Path]:
    """Where ``meridian up`` may have written, this folder's first."""
    ours = Layout.default().endpoints
    return [ours] if os.environ.get(STATE_DIR_VARIABLE) else [Path("var") / ours.name, ours]


def _from_config(path: Path) -> Login:
    try:
        stored = tomllib.loads(path.read_text())
        return Login(stored["api_url"], stored["api_key"], stored.get("inference_url"))
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise UsageError(f"{path} cannot be used ({error}); run `meridian login` again") from error


def _from_endpoints(path: Path) -> Login:
    try:
        endpoints = json.loads(path.read_text())
        return Login(endpoints["api"], endpoints["api_key"], endpoints["edge"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path} cannot be used ({error}); run `make up` again") from error


def local_client(layout: Layout) -> Client:
    """A client for the system that was started in this layout. Raises UsageError if it can't be used."""
    login = _from_endpoints(layout.endpoints)
    return Client(login.api_url, login.api_key, login.inference_url)


def client() -> Client:
    """A client for the login in force."""
    login = login_find()
    return Client(login.api_url, login.api_key, login.inference_url)
