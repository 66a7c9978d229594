#!/bin/sh
# Make .venv what requirements.lock says, unless it is already. Called by make, from the checkout's root.
set -eu

fail() { echo "meridian: $1" >&2; exit 1; }

# The folder is part of the stamp: a virtual environment that was moved doesn't work.
wanted="$(pwd) $(cat requirements.lock infra/embedded/build.lock pyproject.toml | cksum)"
stamp=.venv/.meridian-stamp
[ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ] && exit 0

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; }

if ! { [ -x .venv/bin/python ] && fits .venv/bin/python && [ "$(cat .venv/.meridian-home 2>/dev/null)" = "$(pwd)" ]; }; then
    python=""
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3.14 python3 python; do
        if [ -n "$candidate" ] && fits "$candidate"; then python=$candidate; break; fi
    done
    [ -n "$python" ] || fail "Python 3.11 to 3.14 is needed and none is on the PATH: install it, or set PYTHON=/path/to/python3.11"
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python has no venv module: install it (on Debian and Ubuntu: apt-get install python3-venv)"
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || fail "$python could not make .venv: see the lines above"
    pwd > .venv/.meridian-home
fi

echo "Installing what requirements.lock pins (a minute the first time)"
# uv itself comes by pip with the hashes that the lock has for it.
awk '/^uv==/ {on = 1} on {print; if ($0 !~ /\\$/) exit}' requirements.lock > .venv/uv.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.lock ||
    fail "uv could not be installed: is the package index reachable?"
VIRTUAL_ENV="$(pwd)/.venv"
export VIRTUAL_ENV
# Compiled now, once, and not by each of the dozen processes that `up` starts.
.venv/bin/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock ||
    fail "requirements.lock could not be installed: see the lines above"
.venv/bin/uv pip install --quiet --no-deps --build-constraints infra/embedded/build.lock --editable . ||
    fail "the project itself could not be installed: see the lines above"
echo "$wanted" > "$stamp"
