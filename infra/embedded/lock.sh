#!/bin/sh
# Pin anew, with hashes: the project, the tool that builds it, and vLLM's own environment.
set -eu

pin() {
    .venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
        --no-emit-index-url --no-annotate --no-header --upgrade "$@"
}

pin --extra dev pyproject.toml -o requirements.lock
pin infra/embedded/build.in -o infra/embedded/build.lock
# torch and its kin stay out: which build there is differs by place (see infra/embedded/vllm_environment.py).
pin --excludes infra/engines/vllm/excludes.txt infra/engines/vllm/requirements.in \
    -o infra/engines/vllm/requirements.lock
pin tests/benchmarks/gateway/peers.in -o tests/benchmarks/gateway/peers.lock
pin tests/faults/matrix/peers.in -o tests/faults/matrix/peers.lock
pin tests/clients/environments/python/requirements.in -o tests/clients/environments/python/requirements.lock
